-- id: gone_image
-- title: Image gone in the last days
-- severity: medium
-- rationale: It was deleted, or is no longer shared with this account: the API does not tell these
--   apart. Whatever is built on it cannot be rebuilt.
-- remedy: Confirm that it was meant to go; otherwise restore it from a copy.
-- source: images.gone_at: when describeImage's own `not_found` was seen.
-- parameter days = 7: How many days a gone image is reported.
-- moment since: now - days
select i.account, i.region, i.image_id,
  replace(replace('{name} was seen to be gone {time}',
    '{time}', substr(cast(i.gone_at as char(26)), 1, 16)),
    '{name}', coalesce(v.name, 'an image without a name')) as reason,
  v.closed_run_id as run_id
from images i
join image_versions v on v.image_pk = i.id and v.valid_to = i.gone_at
where i.state = 'gone' and i.gone_at >= :since
order by 1, 2, 3
