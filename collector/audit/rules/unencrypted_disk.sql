-- id: unencrypted_disk
-- title: Private image with a disk that is not encrypted
-- severity: medium
-- rationale: Every instance made from the image, and every copy of its snapshot, holds the data in
--   the clear. A disk whose encryption the API does not say is not reported.
-- remedy: Copy the image with encryption, move its users to the copy, delete the original.
-- source: describeImage, cloudDisk.encrypted: whether the disk of the snapshot is encrypted.
select i.account, i.region, i.image_id,
  replace(replace('{role} disk {device} is not encrypted',
    '{role}', d.role), '{device}', coalesce(d.device_name, '?')) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
join disk_attachments d on d.image_version_id = v.id
where v.valid_to is null and v.image_source = 'private' and d.encrypted = false
order by 1, 2, 3, 4
