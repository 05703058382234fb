-- id: error_status
-- title: Image in status error
-- severity: medium
-- rationale: The image or its snapshot is broken: whoever counts on it for recovery has nothing.
-- remedy: Rebuild the image from a healthy instance, and delete this one.
-- source: Image status table: error, the image or its snapshot is bad.
select i.account, i.region, i.image_id,
  'status is error' as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.status = 'error'
order by 1, 2, 3
