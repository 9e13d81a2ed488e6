-- Who wrote, what was said, and the turns in which it is answered.
set local role secretaria_owner;

create table secretaria.contacts (
  company_id bigint not null references secretaria.companies,
  contact_id uuid not null,
  channel text not null,
  name text,
  created_at timestamptz not null default now(),
  primary key (company_id, contact_id)
);

create table secretaria.contact_aliases (
  company_id bigint not null,
  channel text not null,
  alias text not null,
  contact_id uuid not null,
  primary key (company_id, channel, alias),
  foreign key (company_id, contact_id) references secretaria.contacts
);
comment on table secretaria.contact_aliases is
  'A contact is a set of aliases: a phone without its ninth digit, an @lid. Two that meet in one message become one.';

create table secretaria.conversations (
  company_id bigint not null,
  conversation_id uuid not null,
  contact_id uuid not null,
  channel text not null,
  send_to text not null,
  last_position bigint not null default 0,
  last_message_at timestamptz,
  primary key (company_id, conversation_id),
  foreign key (company_id, contact_id) references secretaria.contacts
);

create index conversations_newest
on secretaria.conversations (company_id, last_message_at desc, conversation_id desc);

create table secretaria.turns (
  company_id bigint not null,
  turn_id uuid not null,
  conversation_id uuid not null,
  state text not null check (state in ('collecting', 'answering', 'ended')),
  outcome text check (outcome in ('replied', 'fallback', 'ignored')),
  reason text,
  opened_at timestamptz not null default now(),
  due_at timestamptz not null,
  closes_at timestamptz not null,
  claims integer not null default 0,
  claimed_by text,
  lease_until timestamptz,
  ended_at timestamptz,
  reply_id uuid,
  traceparent text,
  primary key (company_id, turn_id),
  foreign key (company_id, conversation_id) references secretaria.conversations,
  check ((state = 'ended') = (outcome is not null)),
  check ((state = 'answering') = (lease_until is not null))
);
create unique index turns_one_collecting on secretaria.turns (company_id, conversation_id) where state = 'collecting';
create unique index turns_one_answering on secretaria.turns (company_id, conversation_id) where state = 'answering';
create index turns_due on secretaria.turns (company_id, due_at) where state = 'collecting';
create index turns_next on secretaria.turns (due_at) where state = 'collecting';
create index turns_leased on secretaria.turns (lease_until) where state = 'answering';

create table secretaria.messages (
  company_id bigint not null,
  message_id uuid not null,
  conversation_id uuid not null,
  position bigint not null,
  direction text not null check (direction in ('in', 'out')),
  turn_id uuid not null,
  body text not null,
  content jsonb,
  provider_id text,
  occurred_at timestamptz not null,
  received_at timestamptz not null,
  stored_at timestamptz not null default now(),
  primary key (company_id, message_id),
  unique (company_id, conversation_id, position),
  foreign key (company_id, conversation_id) references secretaria.conversations,
  foreign key (company_id, turn_id) references secretaria.turns
);
create index messages_of_turn on secretaria.messages (company_id, turn_id);

reset role;
