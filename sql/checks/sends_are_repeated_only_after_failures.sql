-- A second send follows only an attempt that failed for a time or is unknown.
select 'a second send follows only an attempt that failed for a time or is unknown' as rule,
  format('company %s delivery %s attempt %s follows %s', a.company_id, a.delivery_id, a.attempt, b.result) as detail
from secretaria.delivery_attempts a
join secretaria.delivery_attempts b
  on b.company_id = a.company_id and b.delivery_id = a.delivery_id and b.attempt = a.attempt - 1
where b.result is distinct from 'FAILED_TEMPORARY' and b.result is distinct from 'UNKNOWN' and a.of_round > 1;
