//! What a model call costs: dated prices per million tokens, each call rounded by itself, as the ledger does it.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, Int64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{as_date32_array, as_int64_array, as_string_array};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use jiff::civil::Date;
use platform::postgres::{GenericClient, query};
use tokio_postgres::Error;

use crate::lake::schema::day_number;

/// Prices of a model from a day on, in micro-dollars per million tokens, and the exchange of that day.
#[derive(Debug, Clone, Copy)]
struct Price {
    since: i32,
    input: i64,
    output: i64,
    cached: i64,
    brl_per_usd: i64,
}

/// The prices of all models, each model's by day.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    models: Arc<HashMap<String, Vec<Price>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    Usd,
    Brl,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    input: i64,
    output: i64,
    cached: i64,
}

impl Prices {
    /// # Errors
    /// If Postgres refuses.
    pub async fn load(client: &impl GenericClient) -> Result<Self, Error> {
        let sql = "
            select model, since, input_usd_micros, output_usd_micros, cached_usd_micros, brl_micros_per_usd
            from secretaria.ai_model_prices
            order by model, since";
        let mut models: HashMap<String, Vec<Price>> = HashMap::new();
        for row in query(client, sql, &[]).await? {
            models.entry(row.get(0)).or_default().push(Price {
                since: day_number(row.get::<_, Date>(1)),
                input: row.get(2),
                output: row.get(3),
                cached: row.get(4),
                brl_per_usd: row.get(5),
            });
        }
        Ok(Prices { models: Arc::new(models) })
    }

    /// The functions `cost_usd` and `cost_brl` of (model, local day, tokens in, out, cached), in micro-units.
    pub fn udfs(&self) -> [ScalarUDF; 2] {
        [("cost_usd", Currency::Usd), ("cost_brl", Currency::Brl)].map(|(name, currency)| {
            let models = Arc::clone(&self.models);
            let number = || DataType::Int64;
            create_udf(
                name,
                vec![DataType::Utf8, DataType::Date32, number(), number(), number()],
                DataType::Int64,
                Volatility::Immutable,
                Arc::new(move |arguments: &[ColumnarValue]| {
                    let arrays = ColumnarValue::values_to_arrays(arguments)?;
                    let (names, days) = (as_string_array(&arrays[0])?, as_date32_array(&arrays[1])?);
                    let (input, output) = (as_int64_array(&arrays[2])?, as_int64_array(&arrays[3])?);
                    let cached = as_int64_array(&arrays[4])?;
                    let number =
                        |array: &Int64Array, row: usize| if array.is_valid(row) { array.value(row) } else { 0 };
                    let costs = (0..names.len()).map(|row| {
                        let price = names.is_valid(row).then(|| names.value(row)).and_then(|it| models.get(it));
                        let price = price.and_then(|it| it.iter().rev().find(|it| it.since <= days.value(row)));
                        let tokens = Tokens {
                            input: number(input, row),
                            output: number(output, row),
                            cached: number(cached, row),
                        };
                        price.map_or(0, |it| it.cost(tokens, currency))
                    });
                    Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(costs))))
                }),
            )
        })
    }
}

impl Price {
    /// In micro-units of the currency, rounded half away from zero, as `round(numeric)` of Postgres does.
    fn cost(&self, tokens: Tokens, currency: Currency) -> i64 {
        let (input, output, cached) = (i128::from(tokens.input), i128::from(tokens.output), i128::from(tokens.cached));
        let exact = (input - cached)
            .saturating_mul(self.input.into())
            .saturating_add(cached.saturating_mul(self.cached.into()))
            .saturating_add(output.saturating_mul(self.output.into()));
        let rounded = match currency {
            Currency::Usd => rounded(exact, 1_000_000),
            Currency::Brl => rounded(exact.saturating_mul(self.brl_per_usd.into()), 1_000_000_000_000),
        };
        i64::try_from(rounded).unwrap_or(i64::MAX)
    }
}

fn rounded(value: i128, unit: i128) -> i128 {
    value.saturating_add(unit / 2 * value.signum()) / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_rounded_half_away_from_zero() {
        let price = Price { since: 0, input: 300_000, output: 2_500_000, cached: 75_000, brl_per_usd: 5_400_000 };
        let cost = |input, output, cached, currency| price.cost(Tokens { input, output, cached }, currency);
        assert_eq!(cost(1_000, 100, 0, Currency::Usd), 550);
        assert_eq!(cost(1, 0, 0, Currency::Usd), 0, "0.3 micro-dollars");
        assert_eq!(cost(5, 0, 0, Currency::Usd), 2, "1.5");
        assert_eq!(cost(1_000, 0, 1_000, Currency::Usd), 75);
        assert_eq!(cost(1_000, 100, 0, Currency::Brl), 2_970);
        assert_eq!(cost(i64::MAX, i64::MAX, i64::MIN, Currency::Brl), i64::MAX, "absurd counts are no panic");
    }
}
