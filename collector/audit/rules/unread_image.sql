-- id: unread_image
-- title: Image not read for days
-- severity: medium
-- rationale: What the inventory says of it is assumed, not confirmed: it may have changed or gone.
-- remedy: Look at the outcome of its last attempt, and at `collector status`; collect again.
-- source: images.last_checked_at: the last `present` or `not_found`.
-- parameter days = 7: Days since the last reading after which an image is unread.
-- moment before: now - days
with unread as (
  select i.id, i.account, i.region, i.image_id, i.last_checked_at, i.last_attempt_at, i.last_outcome
  from images i
  where i.state <> 'gone' and i.last_checked_at < :before
), attempt as (
  select u.id, max(o.run_id) as run_id
  from observation_rows o
  cross join unread u
  where o.image_pk = u.id and o.observed_at = u.last_attempt_at
    and o.run_id >= (select min(r.id)
      from runs r
      where r.finished_at is null
        or r.finished_at >= (select min(f.last_attempt_at) from unread f))
  group by u.id
)
select u.account, u.region, u.image_id,
  replace(replace('last read {time}; last outcome {outcome}',
    '{time}', substr(cast(u.last_checked_at as char(26)), 1, 16)),
    '{outcome}', coalesce(u.last_outcome, 'not_attempted')) as reason,
  a.run_id
from unread u
left join attempt a on a.id = u.id
order by 1, 2, 3
