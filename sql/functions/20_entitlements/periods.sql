-- Periods are counted on a zone's wall clock, so that month ends and summer time come out as people expect.

create or replace function secretaria_reference._instant(p_wall timestamp, p_zone text)
returns timestamptz
language plpgsql
stable
strict
parallel safe
as $$
declare
  -- In a gap this moves forward, as it should; in a fold it is the later of the two instants.
  instant timestamptz := p_wall at time zone p_zone;
  -- The same wall time at the offset of the day before: in a fold, the earlier instant.
  day_before timestamptz := instant - interval '24 hours';
  earlier timestamptz := (p_wall - ((day_before at time zone p_zone) - (day_before at time zone 'UTC')))
    at time zone 'UTC';
begin
  if earlier < instant and earlier at time zone p_zone = p_wall then
    return earlier;
  end if;
  return instant;
end
$$;
comment on function secretaria_reference._instant(timestamp, text) is
  'Stable; no locks. When a wall clock shows a time: past a gap, and the first of two where the clock is set back.';

create or replace function secretaria_reference._boundary(p_wall timestamp, p_cadence text, p_n integer, p_zone text)
returns timestamptz
language sql
stable
parallel safe
as $$
  select secretaria_reference._instant(
    p_wall + case p_cadence
      when 'day' then make_interval(days => p_n)
      when 'week' then make_interval(weeks => p_n)
      when 'month' then make_interval(months => p_n)
      when 'year' then make_interval(years => p_n)
    end,
    p_zone)
$$;
comment on function secretaria_reference._boundary(timestamp, text, integer, text) is
  'Stable; no locks. The n-th boundary, always from the anchor: 31 January, 28 February, 31 March.';

create or replace function secretaria_reference.current_period(
  anchor timestamptz,
  cadence text,
  time_zone text,
  at timestamptz,
  out period_start timestamptz,
  out period_end timestamptz
)
language plpgsql
stable
parallel safe
as $$
declare
  wall timestamp;
  here timestamp;
  n integer;
begin
  if anchor is null or cadence is null or time_zone is null or at is null then
    raise exception 'a period needs an anchor, a cadence, a time zone and an instant'
      using errcode = 'null_value_not_allowed';
  end if;
  if cadence not in ('never', 'day', 'week', 'month', 'year') then
    raise exception 'no cadence is called %', cadence using errcode = 'invalid_parameter_value';
  end if;
  -- Abbreviations and rules in the manner of POSIX are no zones: they know nothing of when the rules changed.
  if time_zone !~* '^(utc|etc/[a-z0-9+-]+|[a-z_]+(/[a-z_-]+)+)$' then
    raise exception 'time zone "%" not recognized', time_zone using errcode = 'invalid_parameter_value';
  end if;
  wall := anchor at time zone time_zone;
  if cadence = 'never' then
    period_start := '-infinity';
    period_end := 'infinity';
    return;
  end if;
  if not isfinite(anchor) or not isfinite(at) then
    raise exception 'a period needs a finite anchor and instant' using errcode = 'invalid_parameter_value';
  end if;
  here := at at time zone time_zone;
  n := case cadence
    when 'day' then here::date - wall::date
    when 'week' then (here::date - wall::date) / 7
    when 'month' then 12 * (extract(year from here) - extract(year from wall))
      + extract(month from here) - extract(month from wall)
    when 'year' then extract(year from here) - extract(year from wall)
  end;
  -- The guess is by the calendar alone and at most one or two off.
  period_start := secretaria_reference._boundary(wall, cadence, n, time_zone);
  while period_start > at
  loop
    n := n - 1;
    period_start := secretaria_reference._boundary(wall, cadence, n, time_zone);
  end loop;
  period_end := secretaria_reference._boundary(wall, cadence, n + 1, time_zone);
  while period_end <= at
  loop
    n := n + 1;
    period_start := period_end;
    period_end := secretaria_reference._boundary(wall, cadence, n + 1, time_zone);
  end loop;
end
$$;
comment on function secretaria_reference.current_period(timestamptz, text, text, timestamptz) is
  'Stable, since zones change their rules; no locks. The half-open period of a cadence (never, day, week, month, year)
that an instant is in, counted from the anchor both ways on the wall clock of the zone (a full IANA name).
22004 for nulls, 22023 for an unknown cadence or zone and for an infinite instant.';
