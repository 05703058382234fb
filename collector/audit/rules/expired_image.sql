-- id: expired_image
-- title: Image past its expiry that is still there
-- severity: low
-- rationale: Somebody set an expiry date, and nothing enforced it.
-- remedy: Delete it, or set a new expiry on purpose.
-- source: describeImage, expiredTime, read in the configured time zone; empty means never.
-- parameter days = 0: Days of grace after the expiry.
-- moment before: now - days
select i.account, i.region, i.image_id,
  replace('expired {day}', '{day}', substr(cast(v.expired_time as char(26)), 1, 10)) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.expired_time < :before
order by 1, 2, 3
