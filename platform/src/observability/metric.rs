//! All metrics and their names; the number of company labels is bounded.

use std::collections::BTreeSet;
use std::sync::{OnceLock, RwLock};

use domain::CompanyId;
use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Webhooks answered, by company and `accepted` or `rejected`.
pub const WEBHOOK_RECEIVED: &str = "secretaria_webhook_received_total";
/// Why webhooks were rejected.
pub const WEBHOOK_REJECTED: &str = "secretaria_webhook_rejected_total";
/// Webhooks accepted although their message is of a kind that is not read, by kind.
pub const WEBHOOK_UNSUPPORTED: &str = "secretaria_webhook_unsupported_total";
/// From a webhook's first byte to its answer.
pub const WEBHOOK_LATENCY: &str = "secretaria_webhook_latency_seconds";
/// Connections open at the HTTP server.
pub const HTTP_CONNECTIONS: &str = "secretaria_http_connections";
/// Messages stored, by company and `in` or `out`.
pub const MESSAGES_PROCESSED: &str = "secretaria_messages_processed_total";
/// Tokens, by company and direction.
pub const TOKEN_USAGE: &str = "secretaria_token_usage_total";
/// Messages booked by metering, by company.
pub const USAGE_MESSAGES: &str = "secretaria_usage_messages_total";
/// Tokens booked by metering, by company.
pub const USAGE_TOKENS: &str = "secretaria_usage_tokens_total";
/// Turns and deliveries not ended, by company.
pub const QUEUE_SIZE: &str = "secretaria_queue_size";
/// Dead letters waiting for an operator.
pub const DEAD_LETTER_QUEUE_SIZE: &str = "secretaria_dead_letter_queue_size";
/// One unit of a processor's work, by processor.
pub const TASK_LATENCY: &str = "secretaria_task_latency_seconds";
/// One send to the provider.
pub const WHATICKET_LATENCY: &str = "secretaria_whaticket_latency_seconds";
/// Sends that failed, by class.
pub const WHATICKET_ERRORS: &str = "secretaria_whaticket_errors_total";
pub const WHATICKET_SUCCESS: &str = "secretaria_whaticket_send_success_total";
/// Sends that will be tried again.
pub const WHATICKET_RETRY: &str = "secretaria_whaticket_send_retry_total";
/// Webhooks about alerts, by endpoint and outcome.
pub const ALERT_WEBHOOKS: &str = "secretaria_alert_webhooks_total";
/// One call of a receiver.
pub const ALERT_WEBHOOK_LATENCY: &str = "secretaria_alert_webhook_latency_seconds";
/// Calls of receivers that failed, by class.
pub const ALERT_WEBHOOK_ERRORS: &str = "secretaria_alert_webhook_errors_total";
/// Successes among all ended deliveries since start.
pub const WHATICKET_RATIO: &str = "secretaria_whaticket_delivery_success_ratio";
pub const LLM_LATENCY: &str = "secretaria_llm_latency_seconds";
/// Model calls that failed, by class.
pub const LLM_ERRORS: &str = "secretaria_llm_errors_total";
/// Failures among all model calls since start.
pub const LLM_ERROR_RATE: &str = "secretaria_llm_error_rate";
/// Health checks that failed, by component.
pub const HEALTHCHECK_FAILURES: &str = "secretaria_healthcheck_failures_total";
/// Records handled, by processor and outcome.
pub const CONSUMER_RECORDS: &str = "secretaria_consumer_records_total";
/// Records dead-lettered because they kept failing alone; more than zero needs an operator.
pub const CONSUMER_GIVEN_UP: &str = "secretaria_consumer_given_up_total";
/// Partitions a processor does not read because their topic was recreated; more than zero needs an operator.
pub const CONSUMER_STOPPED: &str = "secretaria_consumer_stopped_partitions";
/// Records on the broker that a processor has not read yet.
pub const CONSUMER_LAG: &str = "secretaria_consumer_lag";
/// Jobs that a processor has in flight.
pub const RUNNER_IN_FLIGHT: &str = "secretaria_runner_in_flight";
/// Attempts at jobs that ended, by queue and ending.
pub const JOBS_ENDED: &str = "secretaria_jobs_ended_total";
/// Attempts at jobs that failed, by queue and class.
pub const JOB_ERRORS: &str = "secretaria_job_errors_total";
/// Age of the oldest job that is due and not running, by queue.
pub const OLDEST_DUE_JOB: &str = "secretaria_oldest_due_job_seconds";
/// Open circuits, by queue and provider.
pub const CIRCUITS_OPEN: &str = "secretaria_circuits_open";
/// Kafka producers replaced because of a fatal error.
pub const PRODUCERS_REPLACED: &str = "secretaria_producers_replaced_total";
pub const CONSUMERS_REJOINED: &str = "secretaria_consumers_rejoined_total";
/// Events written into files of the lake.
pub const LAKE_EVENTS_WRITTEN: &str = "secretaria_lake_events_written_total";
pub const LAKE_BYTES_WRITTEN: &str = "secretaria_lake_bytes_written_total";
pub const LAKE_FILES_MERGED: &str = "secretaria_lake_files_merged_total";
/// UTC days whose rollups were computed, by outcome.
pub const ROLLUP_DAYS: &str = "secretaria_rollup_days_total";
/// From reading the files of a day to the commit of its rollups.
pub const ROLLUP_LATENCY: &str = "secretaria_rollup_latency_seconds";
/// Rows published by the outbox relay, by topic.
pub const OUTBOX_PUBLISHED: &str = "secretaria_outbox_published_total";

static LABELLED: OnceLock<Labelled> = OnceLock::new();

struct Labelled {
    max: usize,
    companies: RwLock<BTreeSet<CompanyId>>,
}

/// The label of a company: its id while fewer companies than the limit are labelled, else `other`.
///
/// The first companies seen get the labels; exact figures for every company are in SQL.
pub fn company_label(company: CompanyId) -> String {
    let labelled = LABELLED.get_or_init(|| Labelled { max: 100, companies: RwLock::default() });
    if labelled.companies.read().is_ok_and(|known| known.contains(&company)) {
        return company.to_string();
    }
    let Ok(mut known) = labelled.companies.write() else { return "other".into() };
    if known.len() < labelled.max {
        known.insert(company);
        return company.to_string();
    }
    "other".into()
}

/// Describes every metric to the recorder, and sets how many companies get a label of their own.
pub fn describe(labelled_companies: usize) {
    LABELLED.get_or_init(|| Labelled { max: labelled_companies, companies: RwLock::default() });
    describe_counter!(WEBHOOK_RECEIVED, "webhooks answered, by company and status");
    describe_counter!(WEBHOOK_REJECTED, "webhooks rejected, by reason");
    describe_counter!(WEBHOOK_UNSUPPORTED, "webhooks accepted whose message is of a kind that is not read, by kind");
    describe_histogram!(WEBHOOK_LATENCY, "from a webhook's first byte to its answer");
    describe_gauge!(HTTP_CONNECTIONS, "connections open at the HTTP server");
    describe_counter!(MESSAGES_PROCESSED, "messages stored, by company and kind");
    describe_counter!(TOKEN_USAGE, "model tokens, by company and direction");
    describe_counter!(USAGE_MESSAGES, "messages booked by metering");
    describe_counter!(USAGE_TOKENS, "tokens booked by metering");
    describe_gauge!(QUEUE_SIZE, "turns and deliveries not ended, by company");
    describe_gauge!(DEAD_LETTER_QUEUE_SIZE, "dead-lettered events waiting for an operator");
    describe_histogram!(TASK_LATENCY, "one unit of a processor's work");
    describe_histogram!(WHATICKET_LATENCY, "one send to the provider");
    describe_counter!(WHATICKET_ERRORS, "sends that failed, by class");
    describe_counter!(WHATICKET_SUCCESS, "sends that succeeded");
    describe_counter!(WHATICKET_RETRY, "sends that will be tried again");
    describe_counter!(ALERT_WEBHOOKS, "webhooks about alerts, by endpoint and outcome");
    describe_histogram!(ALERT_WEBHOOK_LATENCY, "one call of a webhook's receiver");
    describe_counter!(ALERT_WEBHOOK_ERRORS, "calls of webhooks' receivers that failed, by class");
    describe_gauge!(WHATICKET_RATIO, "successes among all ended deliveries since start");
    describe_histogram!(LLM_LATENCY, "one model call");
    describe_counter!(LLM_ERRORS, "model calls that failed, by class");
    describe_gauge!(LLM_ERROR_RATE, "failures among all model calls since start");
    describe_counter!(HEALTHCHECK_FAILURES, "health checks that failed, by component");
    describe_counter!(CONSUMER_RECORDS, "records handled, by processor and outcome");
    describe_counter!(CONSUMER_GIVEN_UP, "records dead-lettered because they kept failing alone, by processor");
    describe_gauge!(CONSUMER_STOPPED, "partitions not read because their topic was recreated, by processor");
    describe_gauge!(CONSUMER_LAG, "records on the broker not yet read, by processor");
    describe_gauge!(RUNNER_IN_FLIGHT, "jobs in flight, by processor");
    describe_counter!(JOBS_ENDED, "attempts at jobs that ended, by queue and ending");
    describe_counter!(JOB_ERRORS, "attempts at jobs that failed, by queue and class");
    describe_gauge!(OLDEST_DUE_JOB, "age of the oldest job that is due and not running, by queue");
    describe_gauge!(CIRCUITS_OPEN, "open circuits, by queue and provider");
    describe_counter!(PRODUCERS_REPLACED, "Kafka producers replaced because of a fatal error");
    describe_counter!(LAKE_EVENTS_WRITTEN, "Events written into files of the lake");
    describe_counter!(LAKE_BYTES_WRITTEN, "Bytes of the files that were written into the lake");
    describe_counter!(LAKE_FILES_MERGED, "Small files of the lake that were replaced by larger ones");
    describe_counter!(ROLLUP_DAYS, "UTC days whose rollups were computed, by outcome");
    describe_histogram!(ROLLUP_LATENCY, "From reading the files of a day to the commit of its rollups");
    describe_counter!(CONSUMERS_REJOINED, "Kafka consumers replaced because no partition was assigned to them");
    describe_counter!(OUTBOX_PUBLISHED, "rows published by the outbox relay, by topic");
}

/// Names that a metric had before 0.3.0, in pairs of the present one and the former one. Served for one version.
const FORMER_NAMES: [(&str, &str); 3] = [
    (CONSUMER_RECORDS, "secretaria_intake_records_total"),
    (CONSUMER_GIVEN_UP, "secretaria_intake_given_up_total"),
    (CONSUMER_STOPPED, "secretaria_intake_stopped_partitions"),
];

/// Prometheus text with the same metrics under their former names after it, and the former label values beside the new.
pub fn with_former_names(text: &str) -> String {
    let (mut present, mut former) = (String::with_capacity(text.len() * 2), String::new());
    for line in text.lines() {
        present.push_str(line);
        present.push('\n');
        if line.starts_with(TASK_LATENCY) && line.contains("_consumer\"") {
            present.push_str(&line.replace("_consumer\"", "_intake\""));
            present.push('\n');
        }
        let name = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        let renamed =
            FORMER_NAMES.iter().find(|(it, _)| name.strip_prefix(it).is_some_and(|rest| rest.starts_with([' ', '{'])));
        if let Some((name, old)) = renamed {
            let line = line.replace("outcome=\"dead_lettered\"", "outcome=\"parked\"");
            former.push_str(&line.replacen(name, old, 1));
            former.push('\n');
        }
    }
    present + &former
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_metrics_are_served_under_both_names() {
        let text = "# TYPE secretaria_consumer_records_total counter\n\
            secretaria_consumer_records_total{processor=\"reply\",outcome=\"dead_lettered\"} 2\n\
            secretaria_consumer_lag{processor=\"reply\"} 0\n\
            secretaria_task_latency_seconds_sum{task=\"reply_consumer\"} 0.5\n";
        let beside = "secretaria_task_latency_seconds_sum{task=\"reply_intake\"} 0.5\n";
        let former = "# TYPE secretaria_intake_records_total counter\n\
            secretaria_intake_records_total{processor=\"reply\",outcome=\"parked\"} 2\n";
        assert_eq!(with_former_names(text), format!("{text}{beside}{former}"));
    }
}
