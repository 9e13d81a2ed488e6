-- The tenants, and how to reach the people who write to them.
set local role secretaria_owner;

create table secretaria.companies (
  company_id bigint generated always as identity primary key,
  domain text not null unique check (domain = lower(domain) and length(domain) between 1 and 253),
  name text not null check (length(name) between 1 and 200),
  status text not null default 'active' check (status in ('active', 'suspended')),
  time_zone text not null default 'America/Sao_Paulo',
  webhook_secret_sealed bytea,
  webhook_secret_previous_sealed bytea,
  webhook_secret_previous_until timestamptz,
  webhook_token_sha256 bytea check (length(webhook_token_sha256) = 32),
  placement_spread smallint not null default 2 check (placement_spread > 0),
  placement_epoch integer not null default 1,
  assistant_prompt text not null default '',
  fallback_text text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on column secretaria.companies.webhook_secret_sealed is
  'AES-256-GCM-SIV; the associated data names table, column, company and key version.';
comment on column secretaria.companies.webhook_token_sha256 is
  'SHA-256 of the optional X-Webhook-Token; null when none is asked for.';

create table secretaria.channels (
  company_id bigint not null references secretaria.companies,
  channel text not null check (channel in ('whaticket')),
  base_url text not null,
  auth text not null check (auth in ('token', 'login')),
  token_sealed bytea,
  login_email text,
  login_password_sealed bytea,
  updated_at timestamptz not null default now(),
  primary key (company_id, channel),
  check (auth <> 'token' or token_sealed is not null),
  check (auth <> 'login' or (login_email is not null and login_password_sealed is not null))
);

create function secretaria.announce_company()
returns trigger
language plpgsql
as $$
begin
  perform pg_notify('companies_changed', '');
  return null;
end
$$;
comment on function secretaria.announce_company() is
  'Volatile; takes no lock of its own. Tells every ingest that its directory of companies is out of date.';

create trigger announce_company
after insert or update or delete
on secretaria.companies
for each statement
execute function secretaria.announce_company();

reset role;
