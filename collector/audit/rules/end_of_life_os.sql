-- id: end_of_life_os
-- title: Operating system past its end of life
-- severity: high
-- rationale: No security fixes are published any more; every instance made from the image stays
--   vulnerable to whatever is found next.
-- remedy: Move to a supported release, or buy extended support and take the image off this list.
-- source: endoflife.date, read in November 2026: end of free security support (for Debian, of its
--   LTS team), from wiki.ubuntu.com/Releases, wiki.debian.org/LTS, the CentOS project and
--   learn.microsoft.com/lifecycle.
-- parameter days = 0: How many days before its end it is reported.
-- date until: now + days
with life as (
  select 'CentOS' as platform, '5%' as version, '2017-03-31' as ended
  union all select 'CentOS', '6%', '2020-11-30'
  union all select 'CentOS', '7%', '2024-06-30'
  union all select 'CentOS', '8%', '2021-12-31'
  union all select 'Ubuntu', '12.04%', '2017-04-28'
  union all select 'Ubuntu', '14.04%', '2019-04-02'
  union all select 'Ubuntu', '16.04%', '2021-04-02'
  union all select 'Ubuntu', '18.04%', '2023-05-31'
  union all select 'Ubuntu', '20.04%', '2025-05-31'
  union all select 'Ubuntu', '22.04%', '2027-04-01'
  union all select 'Ubuntu', '24.04%', '2029-05-31'
  union all select 'Other Linux', 'Debian 8%', '2020-06-30'
  union all select 'Other Linux', 'Debian 9%', '2022-07-01'
  union all select 'Other Linux', 'Debian 10%', '2024-06-30'
  union all select 'Other Linux', 'Debian 11%', '2026-08-31'
  union all select 'Other Linux', 'Debian 12%', '2028-06-10'
  union all select 'Windows Server', '%2003%', '2015-07-14'
  union all select 'Windows Server', '%2008%', '2020-01-14'
  union all select 'Windows Server', '%2012%', '2023-10-10'
  union all select 'Windows Server', '%2016%', '2027-01-12'
  union all select 'Windows Server', '%2019%', '2029-01-09'
  union all select 'Windows Server', '%2022%', '2031-10-14'
)
select i.account, i.region, i.image_id,
  replace(replace(replace('{platform} {version}, end of life {ended}',
    '{ended}', e.ended), '{platform}', v.platform), '{version}', v.os_version) as reason,
  v.run_id
from image_versions v
join images i on i.id = v.image_pk
join life e on e.platform = v.platform and v.os_version like e.version
where v.valid_to is null and e.ended < :until
order by 1, 2, 3
