//! The pool beside others that do the same work, in one run: Python's pools, procspawn, rayon, and what the machine
//! could do at best.
//!
//! | option | |
//! |---|---|
//! | none | the table, and the plot `benches/versus.svg`; some minutes |
//! | `--quick` | the table, rougher, in less than a minute; no plot |
//! | `--only TEXT` | the rows whose name contains it; no plot |
//! | `--json` | one JSON object for each row |
//! | `--markdown` | the table as Markdown |
//! | `--plot FILE` | draws the plot there, whatever the other options are |
//!
//! With `VERSUS_TIMES` in the environment it says how long each row took.
//!
//! Ours and the others are measured in turns, and medians are compared: absolute figures drift from run to run, the
//! ratios within one are what counts. All do the same work, on the same inputs, with two workers.

mod bulk;
mod contest;
mod footprint;
mod latency;
mod peers;
mod plot;
mod rate;
mod table;
mod talk;
mod work;

use std::{error::Error, io::Write, path::PathBuf, time::Instant};
use table::{Format, Row};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How thoroughly it is measured, and what is made of it.
pub struct Setting {
    quick: bool,
    format: Format,
    only: Option<String>,
    plot: Option<PathBuf>,
}

impl Setting {
    fn read() -> Result<Self> {
        let mut setting = Self { quick: false, format: Format::Text, only: None, plot: None };
        let mut is_bench = false;
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => setting.quick = true,
                "--json" => setting.format = Format::Json,
                "--markdown" => setting.format = Format::Markdown,
                "--only" => setting.only = Some(value()?),
                "--plot" => setting.plot = Some(value()?.into()),
                "--bench" => is_bench = true,
                // A filter or an option for test harnesses, given to all that `cargo` runs.
                _ => {}
            }
        }
        // `cargo test --benches` runs this too, without `--bench`: once through, to see that it works.
        setting.quick |= !is_bench;
        if setting.plot.is_none() && !setting.quick && setting.only.is_none() {
            setting.plot = Some([env!("CARGO_MANIFEST_DIR"), "benches", "versus.svg"].iter().collect());
        }
        Ok(setting)
    }

    /// The one for a quick run, or the other for a thorough one.
    fn pick<T>(&self, quick: T, thorough: T) -> T {
        if self.quick { quick } else { thorough }
    }

    fn wants(&self, measure: &str) -> bool {
        self.only.as_ref().is_none_or(|text| measure.contains(text))
    }
}

type Measure = fn(&Setting) -> Result<Row>;

const ROWS: [(&str, Measure); 24] = [
    ("round trip of a small call", latency::round_trip),
    ("round trip after 10 ms of rest", latency::round_trip_after_rest),
    ("burst of apply_async, all results", rate::burst),
    ("map of a trivial function", rate::map),
    ("64 MiB of bytes there and back", bulk::echo),
    ("64 MiB lent, a number back", bulk::lend),
    ("Pool::new(2) and the first result", latency::start),
    ("CPU-bound pieces of 100 µs", rate::compute),
    ("idle pool of 8, CPU time in 10 s", footprint::idle),
    ("memory of a waiting job", footprint::waiting_jobs),
    ("private memory of a worker", footprint::worker),
    ("200 workers, burst, beside 2", rate::many_workers),
    ("queue, from 1 process to 1", talk::queue_one_to_one),
    ("queue, from 4 processes to 1", talk::queue_four_to_one),
    ("queue, from 1 process to 4", talk::queue_one_to_four),
    ("queue, from 4 processes to 4", talk::queue_four_to_four),
    ("queue, there and back", talk::queue_round_trip),
    ("pipe, there and back", talk::pipe_round_trip),
    ("pipe, messages of 16 MiB", talk::pipe_bandwidth),
    ("lock that nobody else wants", talk::lock),
    ("lock that two processes want", talk::contended_lock),
    ("value, two processes add to it", talk::value),
    ("atomic, two processes add to it", talk::atomic),
    ("entry of a manager's dict", talk::manager),
];

fn main() -> Result<()> {
    // Each of these is the way in for one kind of process that is this program, and returns in all others.
    peers::system::end_if_asked();
    peers::raw::serve_if_asked();
    peers::procspawn::init();
    pool_runtime::enter();

    let setting = Setting::read()?;
    peers::system::allow_many_files()?;
    let begun = Instant::now();
    if peers::python::version().is_none() {
        eprintln!("no python3 here: nothing of multiprocessing and concurrent.futures");
    }
    setting.format.print_head();
    for (name, measure) in ROWS {
        if setting.wants(name) {
            let before = Instant::now();
            setting.format.print(name, &measure(&setting)?);
            std::io::stdout().flush()?;
            if std::env::var_os("VERSUS_TIMES").is_some() {
                eprintln!("{name}: {:.1} s", before.elapsed().as_secs_f64());
            }
        }
    }
    if let Some(file) = &setting.plot {
        plot::draw(&setting, file)?;
    }
    eprintln!("measured in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
