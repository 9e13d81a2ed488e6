//! What holds for every purchase model, whatever its parameters.

use proptest::prelude::*;

use super::cdnow::{BG_NBD, PARETO_NBD, near, near_relative};
use super::*;

/// r, alpha, and the two parameters of stopping, from a wide range.
fn parameters() -> impl Strategy<Value = [f64; 4]> {
    let parameter = |low: f64, high: f64| (low.ln()..high.ln()).prop_map(f64::exp);
    let all = (parameter(0.05, 20.0), parameter(0.5, 100.0), parameter(0.05, 8.0), parameter(0.05, 40.0));
    all.prop_map(|(r, alpha, a, b)| [r, alpha, a, b])
}

fn models([r, alpha, a, b]: [f64; 4]) -> [(&'static str, Box<dyn PurchaseModel>); 4] {
    [
        ("NBD", Box::new(Nbd::new(r, alpha).unwrap())),
        ("BG/NBD", Box::new(BgNbd::new(r, alpha, a, b).unwrap())),
        ("MBG/NBD", Box::new(MbgNbd::new(r, alpha, a, b).unwrap())),
        ("Pareto/NBD", Box::new(ParetoNbd::new(r, alpha, a, b).unwrap())),
    ]
}

fn customers() -> impl Strategy<Value = Summary> {
    (0u32..400, 0.01f64..1.0, 0.1f64..300.0).prop_map(|(x, share, age)| {
        let t_x = if x == 0 { 0.0 } else { share * age };
        Summary::new(x, t_x, age).unwrap()
    })
}

/// A relative tolerance, with an absolute one near zero.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-7 * a.abs().max(b.abs()) + 1e-9
}

proptest! {
    #[test]
    fn a_new_customer_is_one_without_history(parameters in parameters(), t in 0.01f64..200.0) {
        let new = Summary::new(0, 0.0, 0.0).unwrap();
        for (name, model) in models(parameters) {
            let (given, expected) = (model.expected_given(&new, t).unwrap(), model.expected(t).unwrap());
            prop_assert!(close(given, expected), "{name}: {given} {expected}");
            let (active, none) = (model.active(&new, t).unwrap(), model.probability_of(0, t).unwrap());
            prop_assert!(close(active, 1.0 - none), "{name}: {active} {none}");
        }
    }

    #[test]
    fn forecasts_are_in_range_and_rise_with_the_horizon(parameters in parameters(), customer in customers()) {
        for (name, model) in models(parameters) {
            let alive = model.alive(&customer);
            prop_assert!((0.0..=1.0).contains(&alive), "{name}: {alive}");
            let (mut expected, mut active) = (0.0, 0.0);
            for t in [0.0, 0.5, 5.0, 50.0, 500.0] {
                let (more, likelier) = (model.expected_given(&customer, t).unwrap(), model.active(&customer, t).unwrap());
                prop_assert!(more >= expected - 1e-9 && likelier >= active - 1e-12, "{name} {t}: {expected} {more}");
                // Markov's inequality.
                prop_assert!(likelier <= alive + 1e-12 && likelier <= more + 1e-9, "{name} {t}: {likelier} {alive} {more}");
                (expected, active) = (more, likelier);
            }
        }
    }
}

#[test]
fn the_distribution_sums_to_one_and_has_the_expected_mean() {
    let models: [&dyn PurchaseModel; 5] = [
        &BG_NBD.model,
        &PARETO_NBD.model,
        &MbgNbd::new(0.524843, 6.183085, 0.891359, 1.614002).unwrap(),
        &Nbd::new(0.384766, 12.072022).unwrap(),
        &ParetoNbd::new(3.0, 0.9, 1.0, 40.0).unwrap(),
    ];
    for model in models {
        for t in [0.0, 1.0, 39.0] {
            let chances: Vec<f64> = (0..2_000).map(|n| model.probability_of(n, t).unwrap()).collect();
            near(chances.iter().sum::<f64>(), 1.0, 1e-9);
            let mean: f64 = chances.iter().enumerate().map(|(n, chance)| n as f64 * chance).sum();
            near(mean, model.expected(t).unwrap(), 1e-8);
        }
    }
}

#[test]
fn another_unit_of_time_changes_nothing_else() {
    let days: Vec<Summary> = cdnow::HISTORIES
        .iter()
        .map(|it| Summary::new(it.summary.x(), 7.0 * it.summary.t_x(), 7.0 * it.summary.age()).unwrap())
        .collect();
    let sample = Sample::new(days.iter().copied());
    let fit = BgNbd::fit(&sample).unwrap();
    for ((in_days, in_weeks), scale) in
        fit.model.parameters().into_iter().zip(BG_NBD.model.parameters()).zip([1.0, 7.0, 1.0, 1.0])
    {
        near_relative(in_days, scale * in_weeks, 1e-5);
    }
    let pareto = ParetoNbd::fit(&sample).unwrap();
    for ((in_days, in_weeks), scale) in
        pareto.model.parameters().into_iter().zip(PARETO_NBD.model.parameters()).zip([1.0, 7.0, 1.0, 7.0])
    {
        near_relative(in_days, scale * in_weeks, 1e-4);
    }
    for (day, week) in days.iter().zip(cdnow::HISTORIES.iter()).take(200) {
        near(fit.model.alive(day), BG_NBD.model.alive(&week.summary), 1e-5);
    }
}

#[test]
fn what_has_no_forecast_is_refused() {
    assert_eq!(BgNbd::new(0.2, -1.0, 1.0, 1.0).unwrap_err(), Error::OutOfRange { what: "alpha", value: -1.0 });
    assert!(ParetoNbd::new(0.2, 1.0, f64::NAN, 1.0).is_err());
    assert!(BG_NBD.model.expected(-1.0).is_err() && PARETO_NBD.model.expected(f64::INFINITY).is_err());
    let few = Sample::new([Summary::new(0, 0.0, 1.0).unwrap(); 10]);
    assert!(matches!(BgNbd::fit(&few), Err(Error::TooFewCustomers { needed: 40, given: 10, .. })));
    assert!(matches!(GammaGamma::fit([Spend { x: 1, mean: 3.0 }; 3]), Err(Error::TooFewCustomers { .. })));
    let heavy = GammaGamma::new(6.0, 0.9, 15.0).unwrap();
    assert!(heavy.expected().is_err(), "infinite");
}

#[test]
fn forecasts_agree_with_integration_at_forty_digits() {
    // By mpmath 1.3, from the formulas as printed; the Pareto/NBD by integrating over when the customer stopped.
    let summary = |x, t_x, age| Summary::new(x, t_x, age).unwrap();
    let bg = BgNbd::new(0.2425945, 4.4136022, 0.7929219, 2.4259062).unwrap();
    for (x, t_x, expected) in
        [(2, 30.43, 0.00819079902095051), (133, 199.0, 6.32545286153585), (5_000, 199.9, 239.566896680316)]
    {
        near_relative(bg.expected_given(&summary(x, t_x, 200.0), 10.0).unwrap(), expected, 1e-11);
    }
    let regular = BgNbd::new(50.0, 25.0, 0.8, 2.4).unwrap();
    near_relative(regular.expected(400.0).unwrap(), 26.1015272278785, 1e-11);

    let pareto = ParetoNbd::new(0.553277, 10.57768, 0.606240, 11.66873).unwrap();
    let counts = [
        (0, 39.0, 0.593532396401978),
        (3, 39.0, 0.0490523610774942),
        (15, 39.0, 0.00100162683249105),
        (2, 500.0, 0.0691123658122027),
    ];
    for (n, t, expected) in counts {
        near_relative(pareto.probability_of(n, t).unwrap(), expected, 1e-11);
    }
    let customers = [
        (summary(2, 30.43, 38.86), 39.0, 0.869115643260407, 0.591904536375774),
        (summary(0, 0.0, 38.86), 39.0, 0.29509570961861, 0.0692661405027378),
        (summary(26, 30.86, 31.0), 52.0, 0.997917892778324, 0.976180756735057),
    ];
    for (customer, t, alive, active) in customers {
        near_relative(pareto.alive(&customer), alive, 1e-11);
        near_relative(pareto.active(&customer, t).unwrap(), active, 1e-11);
    }
    let likelihoods = [
        (pareto, summary(2, 30.43, 38.86), -9.55433424944228),
        (pareto, summary(0, 0.0, 38.86), -0.521202420929587),
        (pareto, summary(133, 10.0, 200.0), 109.707724195124),
        (
            ParetoNbd::new(0.553277, 3.0 * 11.66873, 0.606240, 10.57768).unwrap(),
            summary(3, 20.0, 30.0),
            -12.6647197581239,
        ),
    ];
    for (model, customer, expected) in likelihoods {
        near_relative(model.log_likelihood(&Sample::new([customer])), expected, 1e-11);
    }
}
