-- id: shared_with_account
-- title: Private image shared with a named account
-- severity: medium
-- rationale: Sharing hands over everything on the disks, and cannot be undone for copies that were
--   made in the meantime. Each account that may use the image is one finding.
-- remedy: Confirm that the sharing is still needed; stop it where it is not.
-- source: describeImageMembers, collected with `[api] members = true`.
select i.account, i.region, i.image_id,
  replace('shared with account {pin}', '{pin}', m.pin) as reason,
  l.run_id
from member_versions l
join images i on i.id = l.image_pk
join image_members m on m.member_version_id = l.id
where l.valid_to is null
order by 1, 2, 3, 4
