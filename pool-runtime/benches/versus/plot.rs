//! From which duration of a task on do processes pay off? How much work two workers do, beside a plain loop, for tasks
//! of one microsecond to ten milliseconds; drawn, and said in a sentence for each contender.

use crate::{
    Result, Setting,
    contest::Contest,
    latency::{PROCSPAWN, timed},
    peers::{
        procspawn,
        python::{self, MULTIPROCESSING, Python},
    },
    rate::{LOOP, RAYON, in_a_loop, in_threads, two_threads},
    table::{Format, figure},
    work::{compute, compute_pair, steps_per_microsecond},
};
use plotters::prelude::*;
use pool_runtime::Pool;
use std::{cell::RefCell, hint::black_box, path::Path, rc::Rc};

const OURS_MAP: &str = "pool-runtime, map";
const OURS_SINGLY: &str = "pool-runtime, apply_async";
const PYTHON_MAP: &str = "multiprocessing, map";
const PYTHON_SINGLY: &str = "multiprocessing, apply_async";

const SIZE: (u32, u32) = (900, 560);

/// A contender's line: for durations in microseconds, its work beside that of a plain loop of its own language.
struct Line {
    name: &'static str,
    beside: &'static str,
    colour: RGBColor,
    width: u32,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// Colours that are told apart without telling red from green; dashes where calls are made one by one.
fn lines() -> Vec<Line> {
    let line = |name, beside, colour, width, dashed| Line { name, beside, colour, width, dashed, points: Vec::new() };
    let (blue, orange, green, purple) =
        (RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167));
    vec![
        line(RAYON, LOOP, orange, 2, false),
        line(OURS_MAP, LOOP, blue, 3, false),
        line(OURS_SINGLY, LOOP, blue, 3, true),
        line(PYTHON_MAP, python::LOOP, green, 2, false),
        line(PYTHON_SINGLY, python::LOOP, green, 2, true),
        line(PROCSPAWN, LOOP, purple, 2, true),
    ]
}

/// Measures, draws, and says what it means.
pub fn draw(setting: &Setting, file: &Path) -> Result<()> {
    let mut lines = lines();
    measure(setting, &mut lines)?;
    lines.retain(|line| !line.points.is_empty());
    render(&lines, file).map_err(|error| format!("cannot draw {}: {error}", file.display()))?;
    if setting.format != Format::Json {
        explain(&lines);
    }
    eprintln!("drew {}", file.display());
    Ok(())
}

fn measure(setting: &Setting, lines: &mut [Line]) -> Result<()> {
    let (pool, theirs, threads) = (Pool::new(2)?, procspawn::pool(2)?, two_threads()?);
    let (mut python, mut python_loop) = (Python::start(MULTIPROCESSING, 2)?, Python::start(python::LOOP, 1)?);
    let (every_third, all) = ([0, 3, 6, 9, 12].as_slice(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].as_slice());
    for step in setting.pick(every_third, all) {
        // 1, 2, 5, 10 and so on.
        let microseconds = [1, 2, 5][step % 3] * 10u64.pow(*step as u32 / 3);
        let steps = (microseconds as f64 * steps_per_microsecond()) as u64;
        // So many of the long ones that it does not matter which of the workers gets the last.
        let slice = setting.pick(20, 60).max(microseconds / 20);
        let mut contest = Contest::new(slice, 1e-3 * slice as f64 * setting.pick(8.0, 32.0));
        contest.add(LOOP, |pieces| timed(|| in_a_loop(pieces, steps)));
        contest.add(RAYON, |pieces| timed(|| in_threads(&threads, pieces, steps)));
        contest.add(OURS_MAP, |pieces| {
            timed(|| {
                black_box(pool.map(|seed| compute::call(seed, steps), 0..pieces)?);
                Ok(())
            })
        });
        contest.add(OURS_SINGLY, |pieces| {
            timed(|| {
                let jobs: Vec<_> = (0..pieces).map(|seed| pool.apply_async(compute::call(seed, steps))).collect();
                for job in jobs {
                    black_box(job.get()?);
                }
                Ok(())
            })
        });
        contest.add(PROCSPAWN, |pieces| procspawn::burst(&theirs, pieces, |seed| (seed, steps), compute_pair));
        if let (Some(python), Some(alone)) = (&mut python, &mut python_loop) {
            let steps = alone.steps(microseconds)?;
            contest.add(python::LOOP, move |pieces| alone.time("compute_map", pieces, steps));
            // One pool for both ways.
            let python = Rc::new(RefCell::new(python));
            let singly = python.clone();
            contest.add(PYTHON_MAP, move |pieces| python.borrow_mut().time("compute_map", pieces, steps));
            contest.add(PYTHON_SINGLY, move |pieces| singly.borrow_mut().time("compute_burst", pieces, steps));
        }
        let figures = contest.run()?;
        for line in &mut *lines {
            if let (Some(time), Some(alone)) = (figures.of(line.name), figures.of(line.beside)) {
                line.points.push((microseconds as f64, alone / time));
            }
        }
    }
    Ok(())
}

fn render(lines: &[Line], file: &Path) -> Result<()> {
    let lowest = lines.iter().flat_map(|line| &line.points).map(|(_, speed)| *speed).fold(0.5, f64::min);
    let floor = lowest / 2.0;
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("From which duration of a task on do two workers pay off?", ("sans-serif", 22))
        .margin(14)
        .margin_right(30)
        .x_label_area_size(52)
        .y_label_area_size(74)
        .build_cartesian_2d((1.0..10_000f64).log_scale(), (floor..3.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("duration of one task")
        .y_desc("work done in the same time, plain loop = 1")
        .x_label_formatter(&|microseconds| duration(*microseconds))
        .y_label_formatter(&|speed| format!("{speed}×"))
        .axis_desc_style(("sans-serif", 16))
        .label_style(("sans-serif", 14))
        .bold_line_style(BLACK.mix(0.18))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    let plain = ShapeStyle { color: BLACK.mix(0.7), filled: false, stroke_width: 1 };
    chart
        .draw_series(LineSeries::new([(1.0, 1.0), (10_000.0, 1.0)], plain))?
        .label("plain loop, and twice that")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 34, y)], plain));
    chart.draw_series(LineSeries::new([(1.0, 2.0), (10_000.0, 2.0)], plain))?;
    for line in lines {
        let style = ShapeStyle { color: line.colour.to_rgba(), filled: false, stroke_width: line.width };
        let points = line.points.iter().copied();
        let drawn = if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?
        } else {
            chart.draw_series(LineSeries::new(points, style))?
        };
        let drawn = drawn.label(line.name);
        if line.dashed {
            drawn.legend(move |(x, y)| plotters::element::DashedPathElement::new([(x, y), (x + 34, y)], 7, 5, style));
        } else {
            drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 34, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .legend_area_size(42)
        .margin(12)
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

fn duration(microseconds: f64) -> String {
    if microseconds < 1000.0 {
        format!("{} µs", figure(microseconds))
    } else {
        format!("{} ms", figure(microseconds / 1000.0))
    }
}

/// From which duration on the line is above another, up to the right end; between two points as it is drawn there.
fn above(line: &[(f64, f64)], bound: impl Fn(usize) -> f64) -> Option<f64> {
    let over = |at: usize| (line[at].1 / bound(at)).ln();
    let first = (0..line.len()).rev().take_while(|at| over(*at) >= 0.0).last()?;
    if first == 0 {
        return Some(line[0].0);
    }
    let (below, above) = (over(first - 1), over(first));
    let share = -below / (above - below);
    Some((line[first - 1].0.ln() * (1.0 - share) + line[first].0.ln() * share).exp())
}

fn explain(lines: &[Line]) {
    println!();
    println!("Tasks pay off from which duration on?");
    println!();
    println!("| two workers | beside a plain loop | at 90 % of rayon |");
    println!("|---|---|---|");
    let rayon = lines.iter().find(|line| line.name == RAYON);
    for line in lines {
        let text = |from: Option<f64>| match from {
            // It was not looked at what is shorter.
            Some(microseconds) if microseconds <= 1.0 => "1 µs or less".to_owned(),
            Some(microseconds) => duration(microseconds),
            None => "10 ms is too short".to_owned(),
        };
        let pays = text(above(&line.points, |_| 1.0));
        let close = match rayon {
            // Python's work is another, and slower.
            Some(rayon) if line.beside == LOOP && line.name != RAYON => {
                text(above(&line.points, |at| 0.9 * rayon.points[at].1))
            }
            _ => "–".to_owned(),
        };
        println!("| {} | {pays} | {close} |", line.name);
    }
}
