-- id: never_read
-- title: Image that was never successfully read
-- severity: high
-- rationale: It is in the plan, and nothing at all is known of it: every other rule is blind here.
-- remedy: Look at the outcome of its last attempt; allow the call, mend the network, or remove the
--   id from the targets.
-- source: images.last_checked_at: the last `present` or `not_found`.
-- parameter days = 0: Days since it was first planned before it is reported.
-- moment before: now - days
select i.account, i.region, i.image_id,
  replace('never read; last outcome {outcome}',
    '{outcome}', coalesce(i.last_outcome, 'not_attempted')) as reason,
  (select r.run_id
    from lanes l
    join run_lanes r on r.lane_id = l.id
    join observation_rows o
      on o.run_id = r.run_id and o.lane_id = r.lane_id and o.image_pk = i.id
    where l.account = i.account and l.region = i.region
    order by r.run_id desc limit 1) as run_id
from images i
where i.last_checked_at is null and i.first_planned_at < :before
order by 1, 2, 3
