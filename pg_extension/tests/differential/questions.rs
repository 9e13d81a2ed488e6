//! The same question to both twins, in one statement and so in one snapshot, at one instant.

use postgres::{Client, Statement};

use crate::chance::Chance;
use crate::steps::{COMPANIES, FEATURES};

/// A list of questions, so that several sessions can be asked the same.
pub(crate) struct Questions {
    companies: Vec<i64>,
    features: Vec<&'static str>,
    required: Vec<i64>,
    /// The instant to ask for: now, or where the row that is stored begins or ends.
    edges: Vec<&'static str>,
    shifts_us: Vec<i64>,
    many: bool,
}

/// What was answered, by both.
pub(crate) struct Answer {
    pub(crate) reason: Option<String>,
    pub(crate) text: String,
}

/// How many questions a list has. Each is put to `check_feature_access`, the first to `has_feature` as well, and now
/// and then all to `check_feature_access_many`.
const LENGTH: usize = 2;

impl Questions {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let many = chance.one_in(3);
        let mut drawn =
            Self { companies: vec![], features: vec![], required: vec![], edges: vec![], shifts_us: vec![], many };
        for _ in 0..LENGTH {
            let company = if chance.one_in(30) { 999 } else { 1 + chance.below(COMPANIES) as i64 };
            let feature = if chance.one_in(30) { "no_such_feature" } else { chance.pick(&FEATURES) };
            drawn.companies.push(company);
            drawn.features.push(feature);
            drawn.required.push(chance.pick(&[0, 1, 1, 2, 5, 1_000_000, i64::MAX]));
            drawn.edges.push(chance.pick(&["now", "now", "now", "valid_until", "period_start", "period_end"]));
            drawn.shifts_us.push(chance.pick(&[-1, 0, 0, 1, 3_600_000_000, -3_600_000_000, 3_000_000_000_000]));
        }
        drawn
    }

    /// Asks a session; the answers, or the SQLSTATE.
    ///
    /// # Panics
    /// Where the twins differ, with every field in which they do.
    pub(crate) fn ask(&self, session: &mut Client, asking: &Statement) -> Result<Vec<Answer>, String> {
        let answers = session
            .query(asking, &[&self.companies, &self.features, &self.required, &self.edges, &self.shifts_us, &self.many])
            .map_err(|problem| problem.code().map_or_else(|| problem.to_string(), |code| code.code().to_owned()))?;
        let differences: Vec<String> = answers.iter().filter_map(|row| row.get("difference")).collect();
        assert!(differences.is_empty(), "the twins differ:\n{}", differences.join("\n"));
        assert_eq!(answers.len(), LENGTH + 1 + usize::from(self.many), "a question without an answer");
        Ok(answers.iter().map(|row| Answer { reason: row.get("reason"), text: row.get("answer") }).collect())
    }
}

/// Both twins under the names `x` (the extension) and `y` (PL/pgSQL).
pub(crate) const ASKING: &str = "
with asked as materialized (
  select a.company, a.feature, a.required, case when isfinite(e.edge) then e.edge + a.shift * interval '1 us' end as at
  from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
    as a (company, feature, required, edge, shift)
  left join secretaria.feature_usage u
    on u.company_id = a.company and u.feature = a.feature and u.slot = 0
  cross join lateral (
    select case a.edge
      when 'valid_until' then u.valid_until when 'period_start' then u.period_start when 'period_end' then u.period_end
    end as edge
  ) e
)
select x.reason, a.company || ' ' || a.feature || ' ' || x::text as answer,
  case when x is distinct from y then (
    select format('check(%s, %s, %s, %s): %s', a.company, a.feature, a.required, a.at,
      string_agg(format('%s is %s instead of %s', key, l.value, r.value), ', '))
    from jsonb_each(to_jsonb(x)) l
    full join jsonb_each(to_jsonb(y)) r using (key)
    where l.value is distinct from r.value
  ) end as difference
from asked a
cross join lateral secretaria.check_feature_access(a.company, a.feature, a.required, a.at) x
cross join lateral secretaria_reference.check_feature_access(a.company, a.feature, a.required, a.at) y
union all
select null, h.x::text,
  case when h.x is distinct from h.y then format('has(%s, %s) is %s instead of %s', h.company, h.feature, h.x, h.y) end
from (
  select company, feature, secretaria.has_feature(company, feature) as x,
    secretaria_reference.has_feature(company, feature) as y
  from (values (($1::bigint[])[1], ($2::text[])[1])) as a (company, feature)
) h
union all
select null, x.rows::text,
  case when x.rows is distinct from y.rows then format('many: %s instead of %s', x.rows, y.rows) end
from (select where $6) as wanted
cross join lateral (
  select array_agg(m::text) as rows from secretaria.check_feature_access_many(($1::bigint[])[1], $2) m
) x
cross join lateral (
  select array_agg(m::text) as rows from secretaria_reference.check_feature_access_many(($1::bigint[])[1], $2) m
) y";
