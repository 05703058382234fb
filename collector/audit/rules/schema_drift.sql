-- id: schema_drift
-- title: Field or value that the documentation does not know
-- severity: info
-- rationale: The API has changed, or was never as documented. Nothing is lost, since the whole
--   answer is kept; but a rule that knows only documented values may miss a new one.
-- remedy: Look at the example; give the field a column, or extend the rule.
-- source: Table schema_drift; the image is the first one that had it, the run the one of
--   the version it had then.
select i.account, i.region, i.image_id,
  case when s.value is null
    then replace(replace('{path} of type {type}', '{type}', s.json_type), '{path}', s.path)
    else replace(replace('{path} has the unknown value {value}', '{path}', s.path),
      '{value}', s.value)
  end as reason,
  v.run_id
from schema_drift s
join (
  select y.id, coalesce(min(z.image_pk), min(x.id)) as image_pk
  from schema_drift y
  join images x on x.image_id = y.example_image_id
  left join image_versions z on z.image_pk = x.id and z.valid_from <= y.first_seen_at
    and (z.valid_to is null or z.valid_to > y.first_seen_at)
  group by y.id
) example on example.id = s.id
join images i on i.id = example.image_pk
left join image_versions v on v.image_pk = i.id and v.valid_from <= s.first_seen_at
  and (v.valid_to is null or v.valid_to > s.first_seen_at)
order by 1, 2, 3, 4
