-- An archived record is in a file of the lake, or a repeat.
select 'an archived record is in a file of the lake, or a repeat' as rule,
  problem as detail
from (
  select format('batch %s: %s records, %s in files, %s repeats', b.batch_id, b.records, coalesce(f.events, 0), b.repeats)
    as problem
  from secretaria.lake_batches b
  left join (
    select batch_id, sum(events)::bigint as events
    from secretaria.lake_files
    where batch_id is not null
    group by batch_id
  ) f using (batch_id)
  where b.records <> b.repeats + coalesce(f.events, 0)
  union all
  -- A range and the batch that it was written from have the instant of their transaction.
  select format('at %s: %s records are done, %s in batches', r.committed_at, r.done, coalesce(b.records, 0))
  from (
    select committed_at, sum(done) as done
    from secretaria.event_ranges
    where processor = 'archive'
      and committed_at > now() - interval '1 day'
    group by committed_at
  ) r
  left join (
    select written_at, sum(records) as records
    from secretaria.lake_batches
    where written_at > now() - interval '1 day'
    group by written_at
  ) b on b.written_at = r.committed_at
  where r.done <> coalesce(b.records, 0)
  union all
  select format('file %s: %s events, %s by company', f.path, f.events, c.events)
  from secretaria.lake_files f
  cross join lateral (select sum(n) as events from unnest(f.company_events) as n) c
  where f.events <> c.events
) violations;
