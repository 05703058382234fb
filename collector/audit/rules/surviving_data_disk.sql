-- id: surviving_data_disk
-- title: Data disk set to survive its instance
-- severity: low
-- rationale: Every instance made from the image leaves a disk behind when it is deleted: data that
--   nobody watches, and that goes on costing.
-- remedy: Rebuild the image with deletion on release, unless the data must outlive instances.
-- source: describeImage, dataDisks[].autoDelete.
select i.account, i.region, i.image_id,
  replace('data disk {device} is not deleted with its instance',
    '{device}', coalesce(d.device_name, '?')) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
join disk_attachments d on d.image_version_id = v.id
where v.valid_to is null and v.image_source = 'private'
  and d.role = 'data' and d.auto_delete = false
order by 1, 2, 3, 4
