-- The sums of usage are the ledger's.
select 'the sums of usage are the ledger''s' as rule,
  format('company %s %s %s %s: ledger %s, sum %s', coalesce(l.company_id, t.company_id), coalesce(l.metric, t.metric),
    coalesce(l.model, t.model), coalesce(l.day, t.day), coalesce(l.amount, 0), coalesce(t.amount, 0)) as detail
from (
  select u.company_id, m.metric, u.model, u.day, sum(m.amount)::bigint as amount
  from secretaria.usage_events u
  cross join lateral (values
    (u.fact, case when u.fact = 'model_tokens' then 0 else u.amount end),
    ('tokens_in', u.tokens_in),
    ('tokens_out', u.tokens_out),
    ('tokens_cached', u.tokens_cached)
  ) as m (metric, amount)
  where m.metric <> 'model_tokens' and m.amount > 0
  group by u.company_id, m.metric, u.model, u.day
) l
full join secretaria.usage_totals t using (company_id, metric, model, day)
where coalesce(l.amount, 0) <> coalesce(t.amount, 0);
