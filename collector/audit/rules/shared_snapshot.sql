-- id: shared_snapshot
-- title: Snapshot that several images are made from
-- severity: low
-- rationale: Deleting or losing the one snapshot breaks all of them; images that look like
--   independent copies are not.
-- remedy: Make the copies that recovery counts on from snapshots of their own.
-- source: describeImage, snapshotId of private images and of their disks.
with refs as (
  select v.image_pk, v.account, v.region, v.run_id, v.snapshot_id
  from image_versions v
  where v.valid_to is null and v.image_source = 'private' and v.snapshot_id <> ''
  union
  select v.image_pk, v.account, v.region, v.run_id, d.snapshot_id
  from image_versions v
  join disk_attachments d on d.image_version_id = v.id
  where v.valid_to is null and v.image_source = 'private' and d.snapshot_id <> ''
), several as (
  select account, region, snapshot_id, count(distinct image_pk) as images
  from refs
  group by account, region, snapshot_id
  having count(distinct image_pk) > 1
)
select i.account, i.region, i.image_id,
  replace(replace('snapshot {snapshot} is used by {count} images',
    '{count}', cast(s.images as char(20))), '{snapshot}', s.snapshot_id) as reason,
  r.run_id
from several s
join refs r on r.account = s.account and r.region = s.region and r.snapshot_id = s.snapshot_id
join images i on i.id = r.image_pk
order by 1, 2, 3, 4
