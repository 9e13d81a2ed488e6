//! The reports' claims: the same numbers in each format, nothing that a spreadsheet runs, nothing left out.

use domain::CompanyId;
use jiff::Timestamp;
use jiff::civil::Date;

use super::table::{Cell, Table, column, decimal, harmless};
use super::{Error, Format, Report, csv};
use crate::tests::{Fixture, with_fixture};

const DAYS: &str = "
    insert into companies (company_id, domain, name, time_zone) overriding system value
    values (7, 'seven.test', '=Seven', 'America/Sao_Paulo');
    insert into rollup_days (company_id, day, events, messages_received, messages_in, messages_out, tokens_in, tokens_out,
      tokens_cached, model_calls, cost_usd_micros, cost_brl_micros, turns, turns_replied, deliveries, deliveries_sent,
      answers, answer_ms_sum, answer_buckets, answer_counts, active_contacts, contact_hashes)
    values
      (7, '2026-03-01', 9, 3, 2, 2, 1000, 100, 10, 2, 1234567, 6790123, 2, 2, 2, 2, 2, 900, '{295, 300}', '{1, 1}', 2, '{10, 20}'),
      (7, '2026-03-03', 5, 1, 1, 1, 500, 50, 0, 1, 1, 5, 1, 1, 1, 0, 1, 700, '{310}', '{1}', 1, '{20}');
    insert into rollup_day_counts (company_id, day, measure, name, detail, amount)
    values
      (7, '2026-03-01', 'turn_outcome', 'replied', '', 2), (7, '2026-03-03', 'turn_outcome', 'replied', '', 1),
      (7, '2026-03-01', 'model_calls', 'gemini-2.5-flash', '', 2), (7, '2026-03-01', 'tokens_in', 'gemini-2.5-flash', '', 1000);
";

async fn report(fixture: &Fixture, from: &str, to: &str) -> Result<Report, Error> {
    let (from, to): (Date, Date) = (from.parse().unwrap(), to.parse().unwrap());
    let now: Timestamp = "2026-03-04T00:00:00Z".parse().unwrap();
    let mut client = fixture.service.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    Report::read(&tx, CompanyId(7), (from, to), now).await
}

#[tokio::test]
async fn every_format_has_the_same_numbers() {
    with_fixture(async |fixture| {
        fixture.root.run(DAYS).await;
        let report = report(fixture, "2026-03-01", "2026-03-03").await.unwrap();
        assert_eq!((report.rows(), report.total.messages_in, report.total.cost_usd_micros), (2, 3, 1_234_568));
        assert_eq!(report.total.contacts.estimate(), 2, "one contact wrote on both days");
        assert!(!report.is_final, "the third of March is not over in São Paulo");
        let lines = String::from_utf8(report.write(Format::Csv).unwrap()).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("company_id,day,is_final,version,messages_received,"), "{}", lines[0]);
        assert!(
            lines[1].starts_with("7,2026-03-01,true,1,3,2,2,2,2,2,2,2,1000,100,10,1.234567,6.790123,2,450,"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].starts_with("7,2026-03-03,false,1,1,1,1,1,1,1,0,1,500,50,0,0.000001,0.000005,1,700,"),
            "{}",
            lines[2]
        );
        let workbook = report.write(Format::Xlsx).unwrap();
        assert!(workbook.starts_with(b"PK"), "a workbook is a zip archive");
    })
    .await;
}

#[tokio::test]
async fn an_independent_reader_finds_the_same_numbers_in_the_workbook() {
    with_fixture(async |fixture| {
        fixture.root.run(DAYS).await;
        let workbook = report(fixture, "2026-03-01", "2026-03-03").await.unwrap().write(Format::Xlsx).unwrap();
        let file = std::env::temp_dir().join(testkit::unique("report")).with_extension("xlsx");
        std::fs::write(&file, workbook).unwrap();
        // Whatever reads zip and XML will do: the values are looked for where the format has them.
        let script = "
import sys, zipfile, xml.etree.ElementTree as tree
book = zipfile.ZipFile(sys.argv[1])
ns = '{http://schemas.openxmlformats.org/spreadsheetml/2006/main}'
names = [it.get('name') for it in tree.fromstring(book.read('xl/workbook.xml')).iter(ns + 'sheet')]
print('|'.join(names))
days = tree.fromstring(book.read('xl/worksheets/sheet2.xml'))
for row in list(days.iter(ns + 'row'))[1:]:
    print('|'.join(cell.find(ns + 'v').text for cell in row if cell.find(ns + 'v') is not None))
print(len([it for it in book.namelist() if it.startswith('xl/charts/chart')]), 'charts')
print('formulas', sum(1 for name in book.namelist() if name.startswith('xl/worksheets/sheet')
      for it in tree.fromstring(book.read(name)).iter(ns + 'f')))
";
        let output = std::process::Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();
        let _ = std::fs::remove_file(&file);
        let read = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = read.lines().collect();
        assert_eq!(lines[0], "Resumo|Dias|Resultados|Modelos");
        assert!(lines[1].starts_with("7|46082|1|1|3|2|2|2|2|2|2|2|1000|100|10|1.234567|6.790123|2|450|"), "{read}");
        assert!(lines[2].starts_with("7|46084|0|1|1|1|1|1|1|1|0|1|500|50|0|0.000001|0.000005|1|700|"), "{read}");
        assert_eq!(&lines[3..], ["2 charts", "formulas 0"]);
    })
    .await;
}

#[tokio::test]
async fn a_span_that_cannot_be_reported_is_refused() {
    with_fixture(async |fixture| {
        let unknown = report(fixture, "2026-03-01", "2026-03-03").await.unwrap_err();
        assert_eq!(unknown.to_string(), "no such company");
        fixture.root.run(DAYS).await;
        assert!(matches!(report(fixture, "2026-03-03", "2026-03-01").await.unwrap_err(), Error::Span { .. }));
        assert!(matches!(report(fixture, "2020-03-03", "2026-03-01").await.unwrap_err(), Error::Span { .. }));
        let empty = report(fixture, "2025-03-01", "2025-03-01").await.unwrap();
        assert_eq!((empty.rows(), empty.total.events, empty.is_final), (0, 0, true));
        assert!(empty.write(Format::Xlsx).is_ok());
    })
    .await;
}

#[test]
fn no_text_is_taken_for_a_formula() {
    for text in ["=1+1", "+55", "-1", "@sum", "\tx", "\rx"] {
        assert_eq!(harmless(text), format!("'{text}"));
    }
    assert_eq!(harmless("a=b"), "a=b");
    let table = Table {
        name: "t",
        columns: vec![column("a", "A"), column("b", "B")],
        rows: vec![vec![Cell::text("=HYPERLINK(\"http://evil\")"), Cell::text("a,\"b\"\nc")]],
    };
    let lines = String::from_utf8(csv::write(&table, Vec::new()).unwrap()).unwrap();
    assert_eq!(lines, "a,b\n\"'=HYPERLINK(\"\"http://evil\"\")\",\"a,\"\"b\"\"\nc\"\n");
}

#[test]
fn money_is_exact() {
    assert_eq!(decimal(0), "0.000000");
    assert_eq!(decimal(-1), "-0.000001");
    assert_eq!(decimal(12_345_678), "12.345678");
    assert_eq!(decimal(i64::MIN), "-9223372036854.775808");
}
