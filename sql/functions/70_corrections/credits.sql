-- Credits beyond a plan's limit are given and taken back with a record of who did it.

create or replace function secretaria_reference.grant_credits(
  company_id bigint,
  feature text,
  amount bigint,
  priority smallint default 100,
  effective_at timestamptz default null,
  expires_at timestamptz default null,
  idempotency_key text default null
)
returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  at timestamptz := secretaria_reference._now();
  starts timestamptz := coalesce(effective_at, at);
  granted uuid;
  known record;
begin
  perform secretaria_reference._authorise(company_id, 'manage');
  if feature is null or amount is null or priority is null then
    raise exception 'feature, amount and priority cannot be null' using errcode = 'null_value_not_allowed';
  end if;
  if amount <= 0 or expires_at <= starts or length(idempotency_key) not between 1 and 255 then
    raise exception 'a grant has an amount above zero, ends after it begins, and a key of 1 to 255 characters'
      using errcode = 'invalid_parameter_value';
  end if;
  perform secretaria_reference._current_start(company_id, feature, at);
  insert into secretaria.usage_grants as g
    (company_id, feature, amount, priority, effective_at, expires_at, idempotency_key, created_at)
  values (grant_credits.company_id, grant_credits.feature, grant_credits.amount, grant_credits.priority, starts,
    grant_credits.expires_at, grant_credits.idempotency_key, at)
  on conflict (company_id, idempotency_key) do nothing
  returning g.grant_id
  into granted;
  if granted is not null then
    perform secretaria_reference._audit(grant_credits.company_id, 'credits_granted', grant_credits.feature,
      jsonb_build_object('grant_id', granted, 'amount', grant_credits.amount));
    return granted;
  end if;
  select g.grant_id,
    (g.feature, g.amount, g.priority, g.expires_at) is not distinct from
      (grant_credits.feature, grant_credits.amount, grant_credits.priority, grant_credits.expires_at) as same
  into known
  from secretaria.usage_grants g
  where g.company_id = grant_credits.company_id
    and g.idempotency_key = grant_credits.idempotency_key;
  if not known.same then
    raise exception 'idempotency key "%" was used for something else', grant_credits.idempotency_key
      using errcode = 'unique_violation', schema = 'secretaria', table = 'usage_grants',
        constraint = 'usage_grants_company_id_idempotency_key_key';
  end if;
  return known.grant_id;
end
$$;
comment on function secretaria_reference.grant_credits(
  bigint, text, bigint, smallint, timestamptz, timestamptz, text) is
  'Volatile; locks what materialising the company locks, until the transaction ends. Adds credits beyond the plan''s
limit; the same key answers the same grant. Needs manage. 22004 nulls, 22023 bad values, 42704 an unknown company or
feature, 23505 the key with another payload, 40001 and 40P01 to be tried again.';

create or replace function secretaria_reference.void_grant(company_id bigint, grant_id uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := secretaria_reference._now();
  known secretaria.usage_grants;
begin
  perform secretaria_reference._authorise(company_id, 'manage');
  if grant_id is null then
    raise exception 'grant_id is null' using errcode = 'null_value_not_allowed';
  end if;
  select g.*
  into known
  from secretaria.usage_grants g
  where g.company_id = void_grant.company_id
    and g.grant_id = void_grant.grant_id;
  if not found then
    raise exception 'grant % does not exist', grant_id using errcode = 'undefined_object';
  end if;
  update secretaria.usage_grants g
  set voided_at = at
  where g.company_id = known.company_id
    and g.grant_id = known.grant_id
    and g.voided_at is null;
  if not found then
    return false;
  end if;
  perform secretaria_reference._audit(
    known.company_id, 'credits_voided', known.feature, jsonb_build_object('grant_id', known.grant_id));
  return true;
end
$$;
comment on function secretaria_reference.void_grant(bigint, uuid) is
  'Volatile; locks the grant and what materialising the company locks, until the transaction ends. Takes back what is
left of it; false where that was done already. Needs manage. 22004, 42704 unknown, 40001 and 40P01 to be tried again.';
