-- Functions of earlier builds that have another name now. A function whose arguments change is dropped here too.

drop function if exists
  secretaria_reference._used_in_slots,
  secretaria_reference._sharing,
  secretaria_reference._share,
  secretaria_reference._gather,
  secretaria_reference._end_sharing,
  secretaria_reference._room,
  secretaria_reference._lend,
  secretaria_reference._count_in_slot,
  secretaria_reference._stays_plain,
  secretaria_reference._asks_plainly,
  secretaria_reference._check_slowly,
  secretaria_reference._increment_plainly,
  secretaria_reference._increment_fully,
  secretaria_reference._answers_plain;
