-- Counters that are not the sums of their ledger, and stored decisions that are not what plan, status and overrides say.
select format('company %s %s: counter %s, ledger %s', company_id, feature, counter, ledger)
from verify_usage()
union all
select format('company %s %s: %s is %s, resolved %s', company_id, feature, field, stored, resolved)
from verify_entitlements();
