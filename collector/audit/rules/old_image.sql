-- id: old_image
-- title: Private image that is old
-- severity: low
-- rationale: An image holds the packages of the day it was made; every instance made from it
--   starts with all the holes that were found since.
-- remedy: Rebuild it from current packages, or delete it.
-- source: describeImage, createTime, read in the configured time zone.
-- parameter days = 365: Days from its creation after which an image is old.
-- moment before: now - days
select i.account, i.region, i.image_id,
  replace('created {day}', '{day}', substr(cast(v.create_time as char(26)), 1, 10)) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.image_source = 'private' and v.create_time < :before
order by 1, 2, 3
