-- id: shared_outside_allow_list
-- title: Private image shared with an account outside the allow-list
-- severity: high
-- rationale: An image shared with an account that nobody approved is data given away. With an
--   empty list nobody is approved, and every sharing is a finding.
-- remedy: Stop the sharing, or add the account's PIN to `allowed` once it is approved.
-- source: describeImageMembers, collected with `[api] members = true`.
-- parameter allowed = []: PINs of the accounts that images may be shared with.
select i.account, i.region, i.image_id,
  replace('shared with account {pin}, which is not on the allow-list', '{pin}', m.pin) as reason,
  l.run_id
from member_versions l
join images i on i.id = l.image_pk
join image_members m on m.member_version_id = l.id
where l.valid_to is null and m.pin not in :allowed
order by 1, 2, 3, 4
