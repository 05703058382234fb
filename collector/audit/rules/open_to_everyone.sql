-- id: open_to_everyone
-- title: Private image that everyone may use
-- severity: high
-- rationale: Whoever can launch the image can read what is on its disks: code, keys, data.
--   Official and market images are meant to say so; they are not reported.
-- remedy: Take the permission back, or name the accounts it is for; rotate what was on the disks.
-- source: describeImage, launchPermission `all` beside imageSource `private`.
select i.account, i.region, i.image_id,
  'launch permission is all' as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.image_source = 'private' and v.launch_permission = 'all'
order by 1, 2, 3
