-- id: unknown_id
-- title: Planned id that never existed for this account
-- severity: low
-- rationale: The endpoint has always answered that there is no such image. The id is mistyped, or
--   the image was deleted, or no longer shared, before the first collection.
-- remedy: Correct the id in the targets, or remove it.
-- source: images.state `unknown` with a `not_found`.
with unknown as (
  select i.id, i.account, i.region, i.image_id, i.last_checked_at
  from images i
  where i.state = 'unknown' and i.last_checked_at is not null
), answer as (
  select u.id, max(o.run_id) as run_id
  from observation_rows o
  cross join unknown u
  where o.image_pk = u.id and o.observed_at = u.last_checked_at and o.outcome = 'not_found'
    and o.run_id >= (select min(r.id)
      from runs r
      where r.finished_at is null
        or r.finished_at >= (select min(f.last_checked_at) from unknown f))
  group by u.id
)
select u.account, u.region, u.image_id,
  'not found since it was first planned' as reason,
  a.run_id
from unknown u
left join answer a on a.id = u.id
order by 1, 2, 3
