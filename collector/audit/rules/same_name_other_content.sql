-- id: same_name_other_content
-- title: Same name, other content in another region
-- severity: medium
-- rationale: Who deploys by name gets something else in each region. Compared are system, version,
--   architecture, sizes and the number of disks, of an account's private images.
-- remedy: Copy the approved image to the other regions again, or rename what is different.
-- source: Columns of image_versions; ids and snapshots differ by region and are not compared.
with mine as (
  select v.image_pk, v.account, v.region, v.name, v.run_id, v.platform, v.os_version,
    v.architecture, v.system_disk_size_gb, nullif(v.size_mb, 0) as size_mb,
    (select count(*) from disk_attachments d where d.image_version_id = v.id) as disks
  from image_versions v
  where v.valid_to is null and v.image_source = 'private' and v.name <> ''
), differing as (
  select account, name
  from mine
  group by account, name
  having count(distinct region) > 1 and (
    count(distinct coalesce(platform, '')) > 1 or count(distinct coalesce(os_version, '')) > 1
    or count(distinct coalesce(architecture, '')) > 1 or count(distinct disks) > 1
    or count(distinct system_disk_size_gb) > 1 or count(distinct size_mb) > 1)
)
select i.account, i.region, i.image_id,
  replace('{name} has other content in another region', '{name}', m.name) as reason,
  m.run_id
from differing s
join mine m on m.account = s.account and m.name = s.name
join images i on i.id = m.image_pk
order by 1, 2, 3
