-- id: unread_image
-- title: Image not read for days
-- severity: medium
-- rationale: What the inventory says of it is assumed, not confirmed: it may have changed or gone.
-- remedy: Look at the outcome of its last attempt, and at `collector status`; collect again.
-- source: images.last_checked_at: the last `present` or `not_found`.
-- parameter days = 7: Days since the last reading after which an image is unread.
-- moment before: now - days
select i.account, i.region, i.image_id,
  replace(replace('last read {time}; last outcome {outcome}',
    '{time}', substr(cast(i.last_checked_at as char(26)), 1, 16)),
    '{outcome}', coalesce(i.last_outcome, 'not_attempted')) as reason,
  (select r.run_id
    from lanes l
    join run_lanes r on r.lane_id = l.id
    join observation_rows o
      on o.run_id = r.run_id and o.lane_id = r.lane_id and o.image_pk = i.id
    where l.account = i.account and l.region = i.region
    order by r.run_id desc limit 1) as run_id
from images i
where i.state <> 'gone' and i.last_checked_at < :before
order by 1, 2, 3
