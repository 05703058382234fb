-- id: offline_but_kept
-- title: Image taken off line that is still in use here
-- severity: low
-- rationale: The publisher has withdrawn the image: it gets no fixes, and new instances may no
--   longer start. Only official and market images say whether they are off line.
-- remedy: Move to the publisher's current image; remove the id from the targets.
-- source: describeImage, offline.
select i.account, i.region, i.image_id,
  'taken off line by its publisher' as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.offline = true
order by 1, 2, 3
