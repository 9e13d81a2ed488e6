//! The SQL of `companies` and `channels`. Writers lock the company's row until they commit.

use aws_lc_rs::digest::{SHA256, digest};
use domain::CompanyId;
use jiff::Timestamp;
use platform::postgres::{self, GenericClient, execute, query};
use platform::seal::{self, Sealer, SecretColumn};
use secrecy::{ExposeSecret, SecretString};

use super::{Auth, Channel, Error, ListedCompany, NewCompany, SECRET, place};

/// The kind of every channel there is so far.
const WHATICKET: &str = "whaticket";

/// The id and the secret of a company's row.
pub(super) struct CompanyRow {
    pub(super) company_id: CompanyId,
    sealed: Option<Vec<u8>>,
}

impl CompanyRow {
    pub(super) fn secret(&self, sealer: &Sealer) -> Result<Option<SecretString>, seal::Error> {
        self.sealed.as_deref().map(|sealed| sealer.open_text(place(SECRET, self.company_id), sealed)).transpose()
    }
}

/// Finds a company and locks its row.
pub(super) async fn by_domain(
    client: &impl GenericClient,
    domain: &str,
) -> Result<Option<CompanyRow>, postgres::Error> {
    let sql = "
        select company_id, webhook_secret_sealed
        from companies
        where domain = $1
        for update";
    let rows = query(client, sql, &[&domain]).await?;
    rows.first()
        .map(|row| {
            Ok(CompanyRow {
                company_id: CompanyId(row.try_get("company_id")?),
                sealed: row.try_get("webhook_secret_sealed")?,
            })
        })
        .transpose()
}

/// Inserts the row; if another process has just done so, returns that one.
pub(super) async fn insert(client: &impl GenericClient, domain: &str) -> Result<CompanyRow, postgres::Error> {
    let sql = "
        insert into companies (domain, name)
        values ($1, left($1, 200))
        on conflict (domain) do update set domain = excluded.domain
        returning company_id, webhook_secret_sealed";
    let row = client.query_one(&client.prepare_cached(sql).await?, &[&domain]).await?;
    Ok(CompanyRow { company_id: CompanyId(row.try_get("company_id")?), sealed: row.try_get("webhook_secret_sealed")? })
}

/// Writes the given values and leaves the rest.
pub(super) async fn update(
    client: &impl GenericClient,
    company: CompanyId,
    given: &NewCompany,
) -> Result<(), postgres::Error> {
    let token_sha256 =
        given.webhook_token.as_ref().map(|it| digest(&SHA256, it.expose_secret().as_bytes()).as_ref().to_vec());
    let sql = "
        update companies
        set name = coalesce($2, name),
            time_zone = coalesce($3, time_zone),
            assistant_prompt = coalesce($4, assistant_prompt),
            fallback_text = coalesce($5, fallback_text),
            webhook_token_sha256 = coalesce($6, webhook_token_sha256),
            updated_at = now()
        where company_id = $1";
    let NewCompany { name, time_zone, assistant_prompt, fallback_text, .. } = given;
    execute(client, sql, &[&company.0, name, time_zone, assistant_prompt, fallback_text, &token_sha256]).await?;
    Ok(())
}

/// Gives the newest version of a plan to a company that has never had a subscription.
pub(super) async fn subscribe(
    client: &impl GenericClient,
    company: CompanyId,
    plan: &str,
) -> Result<(), postgres::Error> {
    let sql = "
        select create_subscription($1, v.plan_version_id)
        from plan_versions v
        join plans p using (plan_id)
        where p.code = $2
          and v.state = 'published'
          and not exists (select from subscriptions s where s.company_id = $1)
        order by v.version desc
        limit 1";
    execute(client, sql, &[&company.0, &plan]).await?;
    Ok(())
}

/// Companies that have never had a subscription.
pub(super) async fn without_subscription(client: &impl GenericClient) -> Result<Vec<CompanyId>, postgres::Error> {
    let sql = "
        select company_id
        from companies c
        where not exists (select from subscriptions s where s.company_id = c.company_id)
        order by company_id";
    let rows = query(client, sql, &[]).await?;
    rows.iter().map(|row| Ok(CompanyId(row.try_get("company_id")?))).collect()
}

/// Writes the present secret, sealed.
pub(super) async fn set_secret(
    client: &impl GenericClient,
    company: CompanyId,
    sealed: &[u8],
) -> Result<(), postgres::Error> {
    let sql = "
        update companies
        set webhook_secret_sealed = $2,
            updated_at = now()
        where company_id = $1";
    execute(client, sql, &[&company.0, &sealed]).await?;
    Ok(())
}

/// Writes, or clears, the previous secret and the instant until which it is valid.
pub(super) async fn set_previous(
    client: &impl GenericClient,
    company: CompanyId,
    sealed: Option<&[u8]>,
    until: Option<Timestamp>,
) -> Result<(), postgres::Error> {
    let sql = "
        update companies
        set webhook_secret_previous_sealed = $2,
            webhook_secret_previous_until = $3
        where company_id = $1";
    execute(client, sql, &[&company.0, &sealed, &until]).await?;
    Ok(())
}

/// Writes the company's channel; the credentials of the other kind of authentication are cleared.
pub(super) async fn put_channel(
    client: &impl GenericClient,
    sealer: &Sealer,
    company: CompanyId,
    channel: &Channel,
) -> Result<(), Error> {
    let seal = |column, secret: &SecretString| {
        sealer.seal(SecretColumn { table: "channels", column, company }, secret.expose_secret().as_bytes())
    };
    let (auth, token, email, password) = match &channel.auth {
        Auth::Token(token) => ("token", Some(seal("token_sealed", token)?), None, None),
        Auth::Login { email, password } => ("login", None, Some(email), Some(seal("login_password_sealed", password)?)),
    };
    let sql = "
        insert into channels (company_id, channel, base_url, auth, token_sealed, login_email, login_password_sealed)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (company_id, channel) do update
        set base_url = excluded.base_url,
            auth = excluded.auth,
            token_sealed = excluded.token_sealed,
            login_email = excluded.login_email,
            login_password_sealed = excluded.login_password_sealed,
            updated_at = now()";
    execute(client, sql, &[&company.0, &WHATICKET, &channel.base_url, &auth, &token, &email, &password]).await?;
    Ok(())
}

/// Every company, without its secrets.
pub(super) async fn list(client: &impl GenericClient) -> Result<Vec<ListedCompany>, Error> {
    let sql = "
        select c.company_id, c.domain, c.name, c.status, c.time_zone, c.webhook_secret_previous_until, h.base_url
        from companies c
        left join channels h on h.company_id = c.company_id and h.channel = $1
        order by c.company_id";
    let rows = query(client, sql, &[&WHATICKET]).await?;
    rows.iter()
        .map(|row| {
            Ok(ListedCompany {
                company_id: CompanyId(row.try_get("company_id")?),
                domain: row.try_get("domain")?,
                name: row.try_get("name")?,
                status: row.try_get("status")?,
                time_zone: row.try_get("time_zone")?,
                previous_secret_until: row.try_get("webhook_secret_previous_until")?,
                channel_url: row.try_get("base_url")?,
            })
        })
        .collect()
}
