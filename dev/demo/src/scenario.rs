//! The data: `companies.toml`, and the scenarios, a file each in `scenarios/`. `README.md` says how to add one.
//!
//! All of it is read and checked before anything is sent; an error names the file and the field.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use domain::IgnoreReason;
use jiff::Timestamp;
use sandbox::{Fault, FaultRule};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::run::digits;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const COMPANIES: &str = "dev/demo/companies.toml";
const SCENARIOS: &str = "dev/demo/scenarios";

/// Companies and scenarios, with the numbers and ids of a run.
pub(crate) struct Script {
    pub(crate) companies: Vec<Company>,
    pub(crate) scenarios: Vec<Scenario>,
}

/// A company as it is to be registered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Company {
    pub(crate) domain: String,
    pub(crate) name: String,
    pub(crate) time_zone: String,
    pub(crate) bridge: Bridge,
    /// Whether its alerts go to a receiver in the sandbox.
    #[serde(default)]
    pub(crate) alerts_to_sandbox: bool,
    pub(crate) fallback_text: String,
    pub(crate) assistant_prompt: String,
}

/// How we sign in at its bridge.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bridge {
    Token,
    /// With this e-mail.
    Login(String),
}

/// What happens between one contact and one company, step by step, and what must come of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its domain, in `companies.toml`.
    pub(crate) company: String,
    #[serde(default)]
    pub(crate) contact: String,
    /// Rules for the sandbox, in its own words. All are in force before the first step, and each must be used up.
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<FaultRule>,
    #[serde(rename = "step")]
    pub(crate) steps: Vec<Step>,
    /// Numbers of the company that this adds to, beyond those that follow from the hooks.
    #[serde(default)]
    pub(crate) numbers: BTreeMap<String, i64>,
    /// Its file's name.
    #[serde(skip)]
    pub(crate) file: String,
    /// Where the company is in [`Script::companies`].
    #[serde(skip)]
    pub(crate) at: usize,
    #[serde(skip)]
    pub(crate) ids: Ids,
}

/// What names a scenario's hooks in this run; a file says `{run}`, `{phone}`, `{short_phone}` or `{lid}` for it.
#[derive(Default)]
pub(crate) struct Ids {
    /// With the ninth digit.
    pub(crate) phone: String,
    /// As WhatsApp keeps it for older accounts: without the ninth digit.
    pub(crate) short_phone: String,
    /// How its message ids begin; they go on with the hook's number.
    pub(crate) message: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Sends hooks without a pause; if any is to be answered, waits for the one answer to all of them.
    SendHooks {
        #[serde(rename = "hook")]
        hooks: Vec<Hook>,
        #[serde(default)]
        answer: Answer,
    },
    /// Uses so much of a feature, under a limit of which this makes so many percent, and expects one alert about it.
    PassThreshold { feature: String, amount: i64, percent: i64, attempts: Vec<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hook {
    /// In a few words, for the one who reads that it went wrong.
    pub(crate) what: String,
    pub(crate) body: Body,
    /// Fields of the fixture that have another value here.
    #[serde(default)]
    pub(crate) set: Map<String, Value>,
    #[serde(default)]
    pub(crate) signature: Signature,
    #[serde(default)]
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    /// That file of `fixtures/hooks/`, written by the scenario's contact now, under an id of its own.
    Fixture(String),
    /// The bytes of that file of `fixtures/hooks/`.
    Unchanged(String),
    /// The bytes of the hook before.
    Previous,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Signature {
    #[default]
    Valid,
    WrongSecret,
    TenMinutesOld,
    TenMinutesAhead,
    UnknownCompany,
}

#[derive(Deserialize, Default, Clone, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Expect {
    /// 202, and it is answered.
    #[default]
    Answered,
    /// 202 with the id of the hook before, and nothing else happens.
    Repeated,
    /// 202, and no answer, for this reason.
    Ignored(IgnoreReason),
    Refused {
        status: u16,
        reason: String,
    },
}

/// What must come of the hooks that are answered together.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// Result and class of every attempt to deliver it.
    pub(crate) attempts: Vec<String>,
    /// How many messages the provider really sends.
    pub(crate) messages_sent: usize,
    /// Its cause, if the answer becomes one.
    pub(crate) dead_letter: Option<String>,
}

impl Default for Answer {
    fn default() -> Self {
        Answer { outcome: Outcome::Replied, attempts: vec!["SENT".into()], messages_sent: 1, dead_letter: None }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// By the model.
    Replied,
    /// With the company's fallback text, and no model call is booked.
    Fallback,
}

impl Scenario {
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.steps.iter().flat_map(|it| if let Step::SendHooks { hooks, .. } = it { hooks.as_slice() } else { &[] })
    }

    /// The steps that are answered: how many hooks, and how.
    pub(crate) fn turns(&self) -> impl Iterator<Item = (usize, &Answer)> {
        self.steps.iter().filter_map(|it| match it {
            Step::SendHooks { hooks, answer } => Some((answered(hooks), answer)).filter(|(hooks, _)| *hooks > 0),
            Step::PassThreshold { .. } => None,
        })
    }
}

/// How many of them are to be answered.
pub(crate) fn answered(hooks: &[Hook]) -> usize {
    hooks.iter().filter(|it| it.expect == Expect::Answered).count()
}

/// Names the scenario of that number, and puts the names into the text of its file.
fn name(text: &str, began: Timestamp, number: usize) -> (Ids, String) {
    let (run, began_at_s) = (digits(began), began.as_second());
    let ids = Ids {
        // Not anybody's number: there is no area 20 in Brazil.
        phone: format!("55209{run}{number:02}"),
        short_phone: format!("5520{run}{number:02}"),
        message: format!("3EB0{began_at_s:08X}{number:02X}"),
    };
    let lid = format!("116900{run}{number:02}@lid");
    let names = [("{run}", &run), ("{phone}", &ids.phone), ("{short_phone}", &ids.short_phone), ("{lid}", &lid)];
    let text = names.iter().fold(text.to_owned(), |text, (name, it)| text.replace(name, it));
    (ids, text)
}

/// Reads all of it, with the numbers and ids of a run that began then.
pub(crate) fn load(began: Timestamp) -> anyhow::Result<Script> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Companies {
        company: Vec<Company>,
    }
    let Companies { company: companies } = parse(COMPANIES, &read(COMPANIES)?)?;
    let listed = std::fs::read_dir(Path::new(ROOT).join(SCENARIOS)).context(SCENARIOS)?;
    let names = listed.map(|it| Ok(it?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<String>>>()?;
    names.retain(|it| it.ends_with(".toml"));
    names.sort();
    let load = |(n, name): (usize, &String)| {
        let path = format!("{SCENARIOS}/{name}");
        let (ids, text) = self::name(&read(&path)?, began, n + 1);
        let mut scenario: Scenario = parse(&path, &text)?;
        (scenario.ids, scenario.file) = (ids, name.clone());
        check(&mut scenario, &companies).context(path)?;
        Ok(scenario)
    };
    let scenarios = names.iter().enumerate().map(load).collect::<anyhow::Result<_>>()?;
    Ok(Script { companies, scenarios })
}

/// What the types cannot hold: that what a scenario names is there.
fn check(scenario: &mut Scenario, companies: &[Company]) -> anyhow::Result<()> {
    let at = companies.iter().position(|it| it.domain == scenario.company);
    scenario.at = at.with_context(|| format!("company: no `{}` in companies.toml", scenario.company))?;
    ensure!(scenario.hooks().next().is_none() || !scenario.contact.is_empty(), "contact: hooks need one");
    for FaultRule { fault, .. } in &mut scenario.faults {
        if let Fault::Status { body, .. } = fault
            && let Some(path) = body.as_str()
        {
            *body = serde_json::from_str(&read(path).context("fault.body")?).with_context(|| path.to_owned())?;
        }
    }
    Ok(())
}

/// Reads TOML; an error names the file and the field.
pub(crate) fn parse<T: DeserializeOwned>(path: &str, text: &str) -> anyhow::Result<T> {
    toml::from_str(text).with_context(|| path.to_owned())
}

/// The text of a file of this repository.
pub(crate) fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(Path::new(ROOT).join(path)).with_context(|| path.to_owned())
}
