//! Plots of some workloads, as SVG.

use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1000, 420);

fn color(side: Side) -> RGBColor {
    match side {
        Side::Freehold => RGBColor(20, 110, 70),
        Side::Xfs => RGBColor(200, 90, 20),
        Side::Btrfs => RGBColor(60, 90, 190),
        Side::Raw => RGBColor(120, 120, 120),
    }
}

/// Writes the plots that the results allow; gives workload, title and file
/// name of each.
pub(crate) fn write(
    results: &Results,
    folder: &Path,
) -> Outcome<Vec<(&'static str, String, String)>> {
    let mut made = Vec::new();
    std::fs::create_dir_all(folder)?;
    let name = |file: &str| format!("plots/{file}");
    if results.cases.iter().any(|c| c.workload == "reflink") {
        let title = "Durable reflink: time against extents";
        reflinks(results, title, &folder.join("reflink.svg"))?;
        made.push(("reflink", title.to_owned(), name("reflink.svg")));
    }
    for (workload, title, file) in [
        ("file", "4 KiB random operations a second", "file.svg"),
        ("durable", "Durable 4 KiB writes a second", "durable.svg"),
    ] {
        if results.cases.iter().any(|c| c.workload == workload) {
            bars(results, workload, title, &folder.join(file))?;
            made.push((workload, title.to_owned(), name(file)));
        }
    }
    Ok(made)
}

/// Lines over logarithmic axes: one for each side.
fn reflinks(results: &Results, title: &str, path: &Path) -> Outcome {
    let extents = |name: &str| name.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    let points = |side: Side| -> Vec<(f64, f64)> {
        let cases = results.cases.iter().filter(|c| c.workload == "reflink");
        cases.filter_map(|c| Some((extents(&c.name)?, c.median(side)? * 1e3))).collect()
    };
    let all: Vec<(f64, f64)> = Side::ALL.into_iter().flat_map(points).collect();
    let most = all.iter().map(|p| p.0).fold(10.0, f64::max);
    let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.1), h.max(p.1)));
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (1.0..most * 1.2).log_scale(),
            (low.max(1e-4) / 2.0..high.max(1e-3) * 2.0).log_scale(),
        )?;
    chart.configure_mesh().x_desc("extents").y_desc("milliseconds").draw()?;
    for side in Side::ALL {
        let line = points(side);
        if line.is_empty() {
            continue;
        }
        let style = color(side).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.clone(), style).point_size(3))?
            .label(side.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    Ok(root.present()?)
}

/// One group of bars for each case that counts operations.
fn bars(results: &Results, workload: &str, title: &str, path: &Path) -> Outcome {
    let cases: Vec<_> = results
        .cases
        .iter()
        .filter(|c| c.workload == workload && c.unit == Unit::PerSecond)
        .collect();
    let sides: Vec<Side> =
        Side::ALL.into_iter().filter(|s| cases.iter().any(|c| c.values.contains_key(s))).collect();
    let high =
        cases.iter().flat_map(|c| sides.iter().filter_map(|s| c.median(*s))).fold(1.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(60)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..cases.len() as f64, 0.0..high * 1.1)?;
    let label = |x: &f64| {
        let at = *x as usize;
        let whole = (x - at as f64 - 0.5).abs() < 0.01;
        cases.get(at).filter(|_| whole).map_or(String::new(), |c| wrapped(&c.name))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(cases.len() * 2 + 1)
        .x_label_formatter(&label)
        .x_label_style(("sans-serif", 10))
        .y_label_formatter(&|y| Unit::PerSecond.show(*y))
        .draw()?;
    let width = 0.8 / sides.len().max(1) as f64;
    for (i, side) in sides.iter().enumerate() {
        let fill = color(*side).filled();
        let bar = |at: usize, v: f64| {
            let left = at as f64 + 0.1 + width * i as f64;
            Rectangle::new([(left, 0.0), (left + width * 0.95, v)], fill)
        };
        let all = cases.iter().enumerate().filter_map(|(at, c)| Some(bar(at, c.median(*side)?)));
        chart
            .draw_series(all)?
            .label(side.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], fill));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    Ok(root.present()?)
}

/// Short enough for the room under a group of bars.
fn wrapped(name: &str) -> String {
    name.replace("after a reflink", "reflinked")
        .replace("after 64 reflinks", "64 reflinks")
        .replace("overwrite", "write")
        .replace("each block once reflinked", "each block once")
        .replace(" writers", "w")
        .replace(" writer", "w")
}
