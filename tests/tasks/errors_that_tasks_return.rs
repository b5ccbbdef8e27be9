//! A task returns whatever error its author is used to, and its caller gets what the error said.

use crate::support::{SharedPool, builder, over_every_transport};
use pool_runtime::{Report, task};
use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    path::Path,
};

over_every_transport! {
    an_error_of_anyhow_is_one_for_the_caller_too,
    an_io_error_keeps_its_kind_and_number,
    boxed_errors_arrive,
    an_alias_of_a_result_may_have_any_name,
    question_marks_make_reports_of_all_errors,
    a_report_knows_its_chain_place_and_type,
    a_caller_converts_a_report_by_a_question_mark,
    a_pool_s_error_answers_the_caller_of_the_task,
    a_pool_s_error_brings_the_report_it_was_made_of,
    a_huge_chain_is_cut_off,
    escape_sequences_are_not_printed,
    a_report_goes_through_several_pools,
    a_report_with_a_context_keeps_its_place,
    backtraces_arrive_when_asked_for,
    large_values_arrive_beside_errors,
}

static POOL: SharedPool = SharedPool::new();

const NO_FILE: &str = "/no/such/file";

#[task]
fn with_anyhow(file: &Path) -> anyhow::Result<u64> {
    use anyhow::Context as _;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim().parse()?)
}

fn an_error_of_anyhow_is_one_for_the_caller_too() {
    fn caller() -> anyhow::Result<u64> {
        Ok(POOL.apply(with_anyhow::call(Path::new(NO_FILE)))?? + 1)
    }
    let error = caller().unwrap_err();
    assert_eq!(format!("{error:#}"), format!("cannot read {NO_FILE}: No such file or directory (os error 2)"));
    assert_eq!(error.chain().count(), 2);
    let report: &Report = error.downcast_ref().expect("what came from the worker");
    assert_eq!((report.messages().count(), report.type_name()), (2, None));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "41\n").unwrap();
    assert_eq!(POOL.apply(with_anyhow::call(file.path())).unwrap().unwrap(), 41);
}

#[task]
fn read(file: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(file)
}

#[task]
fn refuse(text: String) -> Result<(), io::Error> {
    Err(io::Error::new(ErrorKind::InvalidData, text))
}

#[task]
fn end() -> std::io::Result<()> {
    Err(ErrorKind::UnexpectedEof.into())
}

fn an_io_error_keeps_its_kind_and_number() {
    let missing = POOL.apply(read::call(Path::new(NO_FILE))).unwrap().unwrap_err();
    assert_eq!((missing.kind(), missing.raw_os_error()), (ErrorKind::NotFound, Some(2)));
    let invalid = POOL.apply(refuse::call("no header".into())).unwrap().unwrap_err();
    assert_eq!((invalid.kind(), invalid.to_string()), (ErrorKind::InvalidData, "no header".into()));
    let end = POOL.apply(end::call()).unwrap().unwrap_err();
    assert_eq!((end.kind(), end.get_ref().is_none()), (ErrorKind::UnexpectedEof, true));
}

#[task]
fn boxed(text: &str) -> Result<u32, Box<dyn Error>> {
    if text.is_empty() { Err("no text")? } else { Ok(text.parse()?) }
}

#[task]
fn boxed_to_be_sent(text: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
    Ok(text.parse()?)
}

#[task]
fn boxed_for_ever(text: &str) -> std::result::Result<u32, Box<dyn std::error::Error + Send + Sync + 'static>> {
    text.parse().map_err(|error: std::num::ParseIntError| Box::new(error) as _)
}

fn boxed_errors_arrive() {
    const INVALID: &str = "invalid digit found in string";
    assert_eq!(POOL.apply(boxed::call("1")).unwrap().unwrap(), 1);
    assert_eq!(POOL.apply(boxed::call("")).unwrap().unwrap_err().to_string(), "no text");
    assert_eq!(POOL.apply(boxed::call("one")).unwrap().unwrap_err().to_string(), INVALID);
    assert_eq!(POOL.apply(boxed_to_be_sent::call("one")).unwrap().unwrap_err().to_string(), INVALID);
    assert_eq!(POOL.apply(boxed_for_ever::call("one")).unwrap().unwrap_err().to_string(), INVALID);
}

type Fallible<T> = Result<T, BoxError>;
type BoxError = Box<dyn Error + Send + Sync>;

#[task]
fn by_an_alias() -> Fallible<()> {
    Err("whatever it is called".into())
}

fn an_alias_of_a_result_may_have_any_name() {
    assert_eq!(POOL.apply(by_an_alias::call()).unwrap().unwrap_err().to_string(), "whatever it is called");
}

/// An error that cannot travel.
#[derive(Debug)]
struct Chained {
    message: String,
    source: Option<Box<Chained>>,
}

impl Chained {
    /// So many errors, each of which is the cause of the one before.
    fn of(depth: u32) -> Self {
        let last = Self { message: "0".into(), source: None };
        (1..depth).fold(last, |inner, level| Self { message: level.to_string(), source: Some(inner.into()) })
    }
}

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Chained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[task]
fn many_kinds(which: u32) -> Result<String, Report> {
    match which {
        0 => Ok("fine".to_owned()),
        1 => Ok(std::fs::read_to_string(NO_FILE)?),
        2 => Ok("x".parse::<f32>()?.to_string()),
        3 => Ok(String::from_utf8(vec![0xff])?),
        4 => Err(Chained::of(1))?,
        5 => Err(Report::new(anyhow::anyhow!("of anyhow"))),
        _ => Err(Report::new("a text")),
    }
}

fn question_marks_make_reports_of_all_errors() {
    let said = |which| POOL.apply(many_kinds::call(which)).unwrap().map_err(|report| report.to_string());
    assert_eq!(said(0), Ok("fine".to_owned()));
    assert_eq!(said(1), Err("No such file or directory (os error 2)".to_owned()));
    assert_eq!(said(2), Err("invalid float literal".to_owned()));
    assert_eq!(said(3), Err("invalid utf-8 sequence of 1 bytes from index 0".to_owned()));
    assert_eq!(said(4), Err("0".to_owned()));
    assert_eq!(said(5), Err("of anyhow".to_owned()));
    assert_eq!(said(6), Err("a text".to_owned()));
}

#[task]
fn chained(depth: u32) -> Result<(), Report> {
    Err(Chained::of(depth))?;
    Ok(())
}

fn a_report_knows_its_chain_place_and_type() {
    let report = POOL.apply(chained::call(3)).unwrap().unwrap_err();
    assert_eq!(report.messages().collect::<Vec<_>>(), ["2", "1", "0"]);
    assert_eq!(format!("{report} {report:#}"), "2 2: 1: 0");
    assert_eq!(report.type_name(), Some("tasks::errors_that_tasks_return::Chained"));
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/errors_that_tasks_return.rs"));
    let line = source.unwrap().lines().nth(report.line().unwrap() as usize - 1).unwrap().to_owned();
    assert!(report.file().unwrap().ends_with("errors_that_tasks_return.rs"), "{report:?}");
    assert_eq!(line.trim(), "Err(Chained::of(depth))?;");
    assert!(report.column().is_some());
    let start = "2\n\nCaused by:\n    0: 1\n    1: 0\n\nLocation:\n    ";
    assert!(format!("{report:?}").starts_with(start), "{report:?}");
    let source = report.source().unwrap();
    assert_eq!((source.to_string(), source.source().unwrap().to_string()), ("1".into(), "0".into()));
}

fn a_caller_converts_a_report_by_a_question_mark() {
    fn to_anyhow() -> anyhow::Result<()> {
        Ok(POOL.apply(chained::call(2))??)
    }
    fn to_box() -> Result<(), Box<dyn Error>> {
        Ok(POOL.apply(chained::call(2))??)
    }
    fn to_the_library_s() -> pool_runtime::Result<()> {
        Ok(POOL.apply(chained::call(2))??)
    }
    fn to_a_report() -> Result<(), Report> {
        POOL.apply(chained::call(2))?
    }
    assert_eq!(format!("{:#}", to_anyhow().unwrap_err()), "1: 0");
    assert_eq!(to_box().unwrap_err().source().unwrap().to_string(), "0");
    let error = to_the_library_s().unwrap_err();
    assert_eq!((error.to_string(), error.ran()), ("1".to_owned(), pool_runtime::Ran::Yes));
    assert_eq!(format!("{error:?} {error:#}"), "1\n  caused by: 0 1: 0");
    assert_eq!(error.report().unwrap().messages().count(), 2);
    assert!(to_a_report().unwrap_err().type_name().unwrap().ends_with("Chained"), "it stays what it is");
}

#[task]
fn panics() {
    panic!("in the inner pool");
}

#[task]
fn with_a_pool_of_its_own(which: u32) -> pool_runtime::Result<u32> {
    match which {
        0 => {
            let items = pool_runtime::Queue::<u32>::unbounded()?;
            items.get_timeout(std::time::Duration::ZERO)?;
            Ok(0)
        }
        1 => builder().processes(1).build()?.apply(panics::call()).map(|()| 1),
        2 => {
            let pool = builder().processes(1).build()?;
            pool.close();
            pool.apply(panics::call()).map(|()| 2)
        }
        n => Ok(n),
    }
}

#[task]
fn with_a_report(which: u32) -> Result<u32, Report> {
    Ok(with_a_pool_of_its_own(which)?)
}

fn a_pool_s_error_answers_the_caller_of_the_task() {
    let error = |which| POOL.apply(with_a_pool_of_its_own::call(which)).unwrap().unwrap_err();
    let late = error(0);
    assert!(late.is_timeout() && !late.is_pending() && !late.is_panic(), "{late}");
    let panicked = error(1);
    assert_eq!(panicked.panic().expect("a panic").message(), "in the inner pool");
    assert_eq!(panicked.task_name(), Some("tasks::errors_that_tasks_return::panics"));
    assert_eq!(panicked.ran(), pool_runtime::Ran::Yes);
    let closed = error(2);
    assert!(closed.is_closed() && closed.ran() == pool_runtime::Ran::No, "{closed}");
    assert_eq!(POOL.apply(with_a_pool_of_its_own::call(3)).unwrap().unwrap(), 3);
    let report = POOL.apply(with_a_report::call(2)).unwrap().unwrap_err();
    assert_eq!((report.to_string(), report.type_name()), (closed.to_string(), Some("pool_runtime::error::Error")));
}

#[task]
fn as_the_library_s(depth: u32) -> pool_runtime::Result<()> {
    Ok(chained(depth)?)
}

fn a_pool_s_error_brings_the_report_it_was_made_of() {
    let error = POOL.apply(as_the_library_s::call(2)).unwrap().unwrap_err();
    let report = error.report().expect("what the task has converted");
    assert_eq!(report.messages().collect::<Vec<_>>(), ["1", "0"]);
    assert_eq!(report.type_name(), Some("tasks::errors_that_tasks_return::Chained"));
    assert!(report.file().unwrap().ends_with("errors_that_tasks_return.rs"), "{report:?}");
    assert_eq!(format!("{error:#}"), "1: 0");
}

fn a_huge_chain_is_cut_off() {
    let report = POOL.apply(chained::call(10_000)).unwrap().unwrap_err();
    assert_eq!((report.messages().count(), report.messages().last()), (64, Some("[… more causes]")));
}

#[task]
fn escapes() -> Result<(), Report> {
    Err(Report::new("\x1b[2Jcleared"))
}

#[task]
fn anyhow_escapes() -> anyhow::Result<()> {
    Err(anyhow::anyhow!("\x1b[2Jcause").context("\x1b[2Jcleared"))
}

fn escape_sequences_are_not_printed() {
    let report = POOL.apply(escapes::call()).unwrap().unwrap_err();
    assert_eq!((report.to_string(), report.messages().next()), ("\\x1b[2Jcleared".into(), Some("\x1b[2Jcleared")));
    let boxed = POOL.apply(anyhow_escapes::call()).unwrap().unwrap_err();
    assert_eq!(format!("{boxed:#}"), "\\x1b[2Jcleared: \\x1b[2Jcause");
    let io = POOL.apply(refuse::call("\x1b[2J".into())).unwrap().unwrap_err();
    for printed in [format!("{report:?}"), format!("{boxed:?}"), format!("{io:?}"), io.to_string()] {
        assert!(printed.contains("\\x1b[2J") && !printed.contains('\x1b'), "{printed:?}");
    }
}

#[task]
fn hands_on() -> anyhow::Result<()> {
    Ok(builder().processes(1).build()?.apply(chained::call(2))??)
}

fn a_report_goes_through_several_pools() {
    let error = POOL.apply(hands_on::call()).unwrap().unwrap_err();
    let report: &Report = error.downcast_ref().unwrap();
    assert_eq!(report.messages().collect::<Vec<_>>(), ["1", "0"]);
    assert!(report.type_name().unwrap().ends_with("Chained") && report.line().is_some());
}

#[task]
fn with_a_context(which: u32) -> anyhow::Result<()> {
    use anyhow::Context as _;
    match which {
        0 => chained(2).context("first").context("second"),
        1 => as_the_library_s(2).context("of the library"),
        _ => chained(2).map_err(io::Error::other).context("of the system"),
    }
}

#[task]
fn again_a_report(which: u32) -> Result<(), Report> {
    match which {
        0..3 => with_a_context(which).map_err(Report::new),
        _ => Ok(as_the_library_s(2)?),
    }
}

fn a_report_with_a_context_keeps_its_place() {
    let (place, said) = {
        let report = chained(2).unwrap_err();
        (report.line(), format!("{report:#}"))
    };
    for (which, context) in ["second: first: ", "of the library: ", "of the system: ", ""].into_iter().enumerate() {
        let report = POOL.apply(again_a_report::call(which as u32)).unwrap().unwrap_err();
        assert_eq!(format!("{report:#}"), format!("{context}{said}"));
        assert_eq!(report.line(), place, "{report:?}");
        assert_eq!(report.type_name(), Some("tasks::errors_that_tasks_return::Chained"));
        if which < 3 {
            let error = POOL.apply(with_a_context::call(which as u32)).unwrap().unwrap_err();
            let inner: &Report = error.downcast_ref().unwrap();
            assert_eq!((inner.to_string(), inner.line()), (report.to_string(), place));
        }
    }
}

fn backtraces_arrive_when_asked_for() {
    let pool = builder().processes(1).env("RUST_BACKTRACE", "0").env_remove("RUST_LIB_BACKTRACE").build().unwrap();
    assert_eq!(pool.apply(chained::call(1)).unwrap().unwrap_err().backtrace(), None, "unless it is asked for");
    let pool = builder().processes(1).env("RUST_LIB_BACKTRACE", "1").build().unwrap();
    let report = pool.apply(chained::call(1)).unwrap().unwrap_err();
    assert!(report.backtrace().unwrap().contains("chained"), "{report:?}");
    let with_context = pool.apply(with_a_context::call(0)).unwrap().unwrap_err();
    let inner: &Report = with_context.downcast_ref().unwrap();
    assert!(inner.backtrace().unwrap().contains("chained"), "{inner:?}");
    assert!(format!("{report:?}").contains("\n\nStack backtrace:\n"));
    let error = pool.apply(with_anyhow::call(Path::new(NO_FILE))).unwrap().unwrap_err();
    let report: &Report = error.downcast_ref().unwrap();
    assert!(report.backtrace().unwrap().contains("with_anyhow"), "{report:?}");
}

#[task]
fn large(length: usize) -> anyhow::Result<Vec<f64>> {
    anyhow::ensure!(length > 0, "nothing is wanted");
    Ok(vec![1.5; length])
}

fn large_values_arrive_beside_errors() {
    assert_eq!(POOL.apply(large::call(1 << 18)).unwrap().unwrap(), vec![1.5; 1 << 18]);
    let results = POOL.map(large::call, [0, 1]).unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().to_string(), "nothing is wanted");
    assert_eq!(results[1].as_ref().unwrap().len(), 1);
}
