-- id: unknown_id
-- title: Planned id that never existed for this account
-- severity: low
-- rationale: The endpoint has always answered that there is no such image. The id is mistyped, or
--   the image was deleted, or no longer shared, before the first collection.
-- remedy: Correct the id in the targets, or remove it.
-- source: images.state `unknown` with a `not_found`.
select i.account, i.region, i.image_id,
  'not found since it was first planned' as reason,
  (select r.run_id
    from lanes l
    join run_lanes r on r.lane_id = l.id
    join observation_rows o
      on o.run_id = r.run_id and o.lane_id = r.lane_id and o.image_pk = i.id
    where l.account = i.account and l.region = i.region and o.outcome = 'not_found'
    order by r.run_id desc limit 1) as run_id
from images i
where i.state = 'unknown' and i.last_checked_at is not null
order by 1, 2, 3
