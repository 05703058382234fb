-- id: sharing_unknown
-- title: Private image shared with accounts that were not read
-- severity: low
-- rationale: The image says that it is shared, and the inventory does not know with whom, or knew it
--   before the image was last read: the two rules on sharing are blind here, or show an old list.
-- remedy: Set `[api] members = true`, and allow describeImageMembers in the access policy.
-- source: describeImage, launchPermission `specifiedUsers`, without a list of members.
select i.account, i.region, i.image_id,
  'shared with accounts that were not read' as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
left join member_versions l on l.image_pk = i.id and l.valid_to is null
where v.valid_to is null and v.image_source = 'private'
  and v.launch_permission = 'specifiedUsers'
  and (l.id is null or l.last_confirmed_at < i.last_seen_at)
order by 1, 2, 3
