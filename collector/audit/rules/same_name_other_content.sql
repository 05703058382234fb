-- id: same_name_other_content
-- title: Same name, other content in another region
-- severity: medium
-- rationale: Whoever deploys by name gets something else in each region. Compares system, version,
--   architecture, sizes and number of disks of an account's private images.
-- remedy: Copy the approved image to the other regions again, or rename what is different.
-- source: Columns of image_versions; ids and snapshots differ by region and are not compared.
with mine as (
  select v.image_pk, v.account, v.region, v.name, v.run_id,
    v.system_disk_size_gb as size_gb,
    coalesce(v.platform, '') as platform, coalesce(v.os_version, '') as os_version,
    coalesce(v.architecture, '') as architecture, nullif(v.size_mb, 0) as size_mb,
    (select count(*) from disk_attachments d where d.image_version_id = v.id) as disks
  from image_versions v
  where v.valid_to is null and v.image_source = 'private' and v.name <> ''
), compared as (
  select image_pk, name, run_id,
    min(region) over same as low_region, max(region) over same as high_region,
    min(platform) over same as low_platform, max(platform) over same as high_platform,
    min(os_version) over same as low_version, max(os_version) over same as high_version,
    min(architecture) over same as low_arch, max(architecture) over same as high_arch,
    min(size_gb) over same as low_size_gb, max(size_gb) over same as high_size_gb,
    min(size_mb) over same as low_size_mb, max(size_mb) over same as high_size_mb,
    min(disks) over same as low_disks, max(disks) over same as high_disks
  from mine
  window same as (partition by account, name)
)
select i.account, i.region, i.image_id,
  replace('{name} has other content in another region', '{name}', c.name) as reason,
  c.run_id
from compared c
join images i on i.id = c.image_pk
where c.low_region <> c.high_region and (
  c.low_platform <> c.high_platform
  or c.low_version <> c.high_version
  or c.low_arch <> c.high_arch
  or c.low_size_gb <> c.high_size_gb
  or c.low_size_mb <> c.high_size_mb
  or c.low_disks <> c.high_disks)
order by 1, 2, 3
