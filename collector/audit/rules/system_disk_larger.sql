-- id: system_disk_larger
-- title: System disk larger than declared
-- severity: low
-- rationale: The image says one size and its disk configuration another: instances cost more than
--   planned, or the record is wrong.
-- remedy: Correct the disk configuration of the image, or rebuild it.
-- source: describeImage, systemDisk's diskSizeGB beside systemDiskSizeGB.
select i.account, i.region, i.image_id,
  replace(replace('system disk of {disk} GiB, declared {declared} GiB',
    '{disk}', cast(d.disk_size_gb as char(20))),
    '{declared}', cast(v.system_disk_size_gb as char(20))) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
join disk_attachments d on d.image_version_id = v.id
where v.valid_to is null and d.role = 'system' and d.disk_size_gb > v.system_disk_size_gb
order by 1, 2, 3
