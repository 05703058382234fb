-- id: never_read
-- title: Image that was never successfully read
-- severity: high
-- rationale: It is in the plan, and nothing at all is known of it: every other rule is blind here.
-- remedy: Look at the outcome of its last attempt; allow the call, mend the network, or remove the
--   id from the targets.
-- source: images.last_checked_at: the last `present` or `not_found`.
-- parameter days = 0: Days since it was first planned before it is reported.
-- moment before: now - days
with unread as (
  select i.id, i.account, i.region, i.image_id, i.first_planned_at, i.last_attempt_at, i.last_outcome
  from images i
  where i.last_checked_at is null and i.first_planned_at < :before
), attempt as (
  select u.id, max(o.run_id) as run_id
  from observation_rows o
  cross join unread u
  where o.image_pk = u.id and (o.observed_at = u.last_attempt_at or u.last_attempt_at is null)
    and o.run_id >= (select min(r.id)
      from runs r
      where r.finished_at is null
        or r.finished_at >= (
          select min(coalesce(f.last_attempt_at, f.first_planned_at)) from unread f))
  group by u.id
)
select u.account, u.region, u.image_id,
  replace('never read; last outcome {outcome}',
    '{outcome}', coalesce(u.last_outcome, 'not_attempted')) as reason,
  a.run_id
from unread u
left join attempt a on a.id = u.id
order by 1, 2, 3
