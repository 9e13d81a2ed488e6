-- What is under way for the companies $1, and up to which offset each partition was read, in one snapshot.
select
  (select count(*)
   from secretaria.event_outcomes
   where company_id = any($1)
     and state = 'in_flight') as in_flight,
  (select count(*)
   from secretaria.outbox
   where company_id = any($1)) as to_publish,
  (select count(*)
   from secretaria.rollup_utc_days
   where computed_mark < mark) as to_compute,
  array(select format('%s %s %s %s', processor, topic, partition, next_offset)
        from secretaria.consumer_offsets) as offsets;
