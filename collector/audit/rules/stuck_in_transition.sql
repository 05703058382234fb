-- id: stuck_in_transition
-- title: Image stuck in a transitional status
-- severity: medium
-- rationale: Creating and deleting take minutes. An image that was pending or deleting in every
--   reading for longer has failed, cannot be relied on, and may still cost money.
-- remedy: Delete and rebuild it; open a ticket when it cannot be deleted.
-- source: Image status table: pending, ready, deleting, error.
-- parameter days = 1: Days of nothing but transitional statuses that make it stuck.
-- moment before: now - days
select i.account, i.region, i.image_id,
  replace(replace('{status} in every reading since {since}', '{status}', v.status), '{since}',
    substr(cast((select min(w.valid_from) from image_versions w where w.image_pk = i.id
      and not exists (select 1 from image_versions x where x.image_pk = i.id
        and x.valid_from > w.valid_from
        and (x.status is null or x.status not in ('pending', 'deleting')))
      and w.status in ('pending', 'deleting')) as char(26)), 1, 16)) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
where v.valid_to is null and v.status in ('pending', 'deleting')
  and i.first_seen_at < :before and i.last_seen_at >= :before
  and not exists (select 1 from image_versions o where o.image_pk = i.id and o.valid_to >= :before
    and (o.status is null or o.status not in ('pending', 'deleting')))
order by 1, 2, 3
