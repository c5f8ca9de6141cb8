//! Drawings, as SVG in a text; plotters draws.

use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Circle, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, LineSeries,
    PathElement, RGBColor, Rectangle, SVGBackend,
};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{Axis, Span};
use super::page::COLOURS;

const WIDTH: u32 = 900;
const LINES_HEIGHT: u32 = 320;
const BAR_HEIGHT: u32 = 34;
/// Above the bars, and for their axis.
const BARS_FRAME: u32 = 70;
const FONT: &str = "sans-serif";
const FONT_SIZE: i32 = 15;
/// Of the names of marks.
const MARK_FONT_SIZE: i32 = 14;
/// Pixels of one of their characters, at most on average.
const MARK_CHARACTER_WIDTH: i32 = 7;
/// Above lines with names above them.
const MARKS_HEIGHT: u32 = 26;

/// The page's dark style replaces these values, so they also serve as names.
const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
const LINE: RGBColor = RGBColor(0xd1, 0xd9, 0xe0);
const SERIES: [RGBColor; COLOURS] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x7a, 0x7a, 0x7a),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A line: its name, and its points from left to right. Where there is no value the line breaks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    /// Named in the legend.
    pub name: String,
    /// Points, as the axes have them.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Line {
    /// The parts without a break.
    fn parts(&self) -> Vec<Vec<(f64, f64)>> {
        let parts = self.points.split(|(_, y)| y.is_none());
        let known = |part: &[(f64, Option<f64>)]| {
            part.iter()
                .filter_map(|&(x, y)| y.map(|y| (x, y)))
                .collect::<Vec<_>>()
        };
        parts.map(known).filter(|part| !part.is_empty()).collect()
    }
}

/// A named place on an axis, as the points have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// Written beside it, if there is room.
    pub name: String,
}

/// What is drawn beside lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marks {
    /// Places on the horizontal axis, from left to right: an upright line each, with its name above.
    pub upright: Vec<Mark>,
    /// Places on the vertical axis: a level line each, with its name at the right end.
    pub level: Vec<Mark>,
    /// Whether every point is a dot.
    pub dots: bool,
    /// The horizontal axis reaches at least so far.
    pub until: f64,
}

/// Draws lines. `None` when no line has a point.
pub fn lines(x: &Axis, y: &Axis, lines: &[Line]) -> Option<String> {
    marked_lines(x, y, lines, &Marks::default())
}

/// The same with marks.
pub fn marked_lines(x: &Axis, y: &Axis, lines: &[Line], marks: &Marks) -> Option<String> {
    lines.iter().flat_map(Line::parts).next()?;
    let mut svg = String::new();
    let drawn = draw_lines(&mut svg, x, y, lines, marks);
    drawn.expect("a drawing into a text cannot fail");
    Some(svg)
}

fn draw_lines(svg: &mut String, x: &Axis, y: &Axis, lines: &[Line], marks: &Marks) -> Drawn {
    let points = || lines.iter().flat_map(Line::parts).flatten();
    let at = |mark: &Mark| mark.at;
    let marked = marks.upright.iter().map(at).chain([marks.until]);
    let x_span = x.span(points().map(|point| point.0).chain(marked));
    let level = marks.level.iter().map(at);
    let y_span = y.span(points().map(|point| point.1).chain(level));
    let frame = Frame {
        left: x_span.from,
        right: x_span.to,
        bottom: y_span.from,
        top: y_span.to,
    };
    let area: Area<'_> = SVGBackend::with_string(svg, (WIDTH, LINES_HEIGHT)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin_top(match marks.upright.is_empty() {
            true => 10,
            false => MARKS_HEIGHT,
        })
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(74)
        .build_cartesian_2d(x_span, y_span)?;
    chart
        .configure_mesh()
        .bold_line_style(LINE)
        .axis_style(INK)
        .label_style((FONT, FONT_SIZE).into_font().color(&INK))
        .axis_desc_style((FONT, FONT_SIZE).into_font().color(&INK))
        .x_label_formatter(&|place| x.name(*place))
        .y_label_formatter(&|place| y.name(*place))
        .x_desc(&x.label)
        .y_desc(&y.label)
        .draw()?;
    for (colour, line) in SERIES.iter().cycle().zip(lines) {
        for part in line.parts() {
            let placed: Vec<_> = part
                .into_iter()
                .map(|(at, value)| (x.place(at), y.place(value)))
                .collect();
            let dots = if marks.dots || placed.len() == 1 {
                &placed[..]
            } else {
                &[]
            };
            chart.draw_series(dots.iter().map(|dot| Circle::new(*dot, 3, colour.filled())))?;
            chart.draw_series(LineSeries::new(placed, colour.stroke_width(2)))?;
        }
    }
    let upright = marks.upright.iter().map(|mark| x.place(mark.at));
    let level = marks.level.iter().map(|mark| y.place(mark.at));
    let lines = upright
        .map(|at| [(at, frame.bottom), (at, frame.top)])
        .chain(level.map(|at| [(frame.left, at), (frame.right, at)]));
    chart.draw_series(lines.map(|line| PathElement::new(line, INK.stroke_width(1))))?;
    let right = chart.backend_coord(&(frame.right, frame.top));
    let upright = marks.upright.iter().map(|mark| {
        let place = (x.place(mark.at), frame.top);
        (mark, chart.backend_coord(&place))
    });
    name_upright(&area, &upright.collect::<Vec<_>>(), right.0)?;
    let level = marks.level.iter().map(|mark| {
        let place = (frame.right, y.place(mark.at));
        (mark, chart.backend_coord(&place))
    });
    name_level(&area, &level.collect::<Vec<_>>())?;
    drop(chart);
    area.present()
}

/// The ends of both axes, as places.
struct Frame {
    left: f64,
    right: f64,
    bottom: f64,
    top: f64,
}

/// A mark, and where its name begins or ends, in pixels.
type Placed<'a> = (&'a Mark, (i32, i32));

/// Writes the names above the drawing that fit before the next mark; the last one may also end at its mark.
fn name_upright(area: &Area<'_>, marks: &[Placed<'_>], right: i32) -> Drawn {
    let style = (FONT, MARK_FONT_SIZE).into_font().color(&INK);
    let ending = style.pos(Pos::new(HPos::Right, VPos::Top));
    let next = marks.iter().skip(1).map(|(_, (left, _))| *left);
    let mut free_from = 0;
    for ((mark, (at, top)), next) in marks.iter().zip(next.chain([right])) {
        let characters = i32::try_from(mark.name.chars().count()).unwrap_or(i32::MAX);
        let width = characters.saturating_mul(MARK_CHARACTER_WIDTH);
        let above = top - MARK_FONT_SIZE - 3;
        if width <= next - at {
            area.draw_text(&mark.name, &style, (*at, above))?;
            free_from = at + width;
        } else if next == right && width <= at - free_from {
            area.draw_text(&mark.name, &ending, (*at, above))?;
        }
    }
    Ok(())
}

/// Writes the names of levels on their lines, at the right end.
fn name_level(area: &Area<'_>, marks: &[Placed<'_>]) -> Drawn {
    let right = Pos::new(HPos::Right, VPos::Bottom);
    let style = (FONT, MARK_FONT_SIZE).into_font().color(&INK).pos(right);
    for (mark, (right, line)) in marks {
        area.draw_text(&mark.name, &style, (right - 4, line - 2))?;
    }
    Ok(())
}

/// A bar: its name, and how long each of its parts is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    /// At its left end.
    pub name: String,
    /// One per part, in the order of the legend.
    pub parts: Vec<f64>,
    /// Beyond its right end.
    pub value: String,
}

/// Draws bars from left to right, their parts one after another. `None` without bars.
/// `mark` draws a line across all bars.
pub fn bars(x: &Axis, bars: &[Bar], mark: Option<f64>) -> Option<String> {
    if bars.is_empty() {
        return None;
    }
    let mut svg = String::new();
    draw_bars(&mut svg, x, bars, mark).expect("a drawing into a text cannot fail");
    Some(svg)
}

/// Pixels for the longest name; charts with short names have the same width.
fn name_width(bars: &[Bar]) -> u32 {
    let characters = bars.iter().map(|bar| bar.name.chars().count()).max();
    u32::try_from(characters.unwrap_or(0) * 8).map_or(400, |pixels| pixels.clamp(210, 400))
}

fn draw_bars(svg: &mut String, x: &Axis, bars: &[Bar], mark: Option<f64>) -> Drawn {
    let count = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let height = count.saturating_mul(BAR_HEIGHT) + BARS_FRAME;
    let totals = bars.iter().map(|bar| bar.parts.iter().sum::<f64>());
    let span = x.span(totals.chain(mark));
    let rows = f64::from(count);
    let down = Span {
        from: rows,
        to: 0.0,
        ticks: (0..count).map(|row| f64::from(row) + 0.5).collect(),
    };
    let area: Area<'_> = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin_top(10)
        .margin_right(110)
        .x_label_area_size(46)
        .y_label_area_size(name_width(bars))
        .build_cartesian_2d(span, down)?;
    let name = |row: f64| {
        let bar = (0..)
            .zip(bars)
            .find(|(index, _)| (f64::from(*index) + 0.5 - row).abs() < 0.1);
        bar.map(|(_, bar): (u32, &Bar)| bar.name.clone())
            .unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(LINE)
        .axis_style(INK)
        .label_style((FONT, FONT_SIZE).into_font().color(&INK))
        .axis_desc_style((FONT, FONT_SIZE).into_font().color(&INK))
        .x_label_formatter(&|place| x.name(*place))
        .y_label_formatter(&|row| name(*row))
        .x_desc(&x.label)
        .draw()?;
    for (row, bar) in (0u32..).zip(bars) {
        let row = f64::from(row);
        let mut begin = 0.0;
        for (colour, part) in SERIES.iter().cycle().zip(&bar.parts) {
            let corners = [(begin, row + 0.2), (begin + part, row + 0.8)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            begin += part;
        }
        let style = (FONT, FONT_SIZE).into_font().color(&INK);
        let (right, top) = chart.backend_coord(&(begin, row + 0.36));
        area.draw_text(&bar.value, &style, (right + 6, top))?;
    }
    if let Some(mark) = mark {
        let across = vec![(mark, 0.0), (mark, rows)];
        chart.draw_series([PathElement::new(across, INK.stroke_width(2))])?;
    }
    drop(chart);
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_a_line_where_nothing_was_measured() {
        let line = Line {
            name: String::new(),
            points: vec![(0.0, Some(1.0)), (1.0, None), (2.0, None), (3.0, Some(2.0))],
        };
        assert_eq!(line.parts(), [vec![(0.0, 1.0)], vec![(3.0, 2.0)]]);
        let (x, y) = (Axis::linear("time, s"), Axis::log("latency, ms"));
        let svg = lines(&x, &y, &[line]).unwrap();
        assert_eq!(
            svg.matches("<circle").count(),
            2,
            "single points are seen: {svg}"
        );
        assert!(svg.contains("latency, ms") && svg.contains("time, s"));
        assert_eq!(lines(&x, &y, &[Line::default()]), None);
    }

    #[test]
    fn names_marks_where_there_is_room() {
        let line = Line {
            name: String::new(),
            points: vec![(0.0, Some(1.0)), (100.0, Some(5.0))],
        };
        let mark = |at: f64, name: &str| Mark {
            at,
            name: name.to_owned(),
        };
        let marks = Marks {
            upright: vec![
                mark(0.0, "warm-up"),
                mark(40.0, "narrow"),
                mark(42.0, "steady"),
            ],
            level: vec![mark(7.0, "objective")],
            dots: true,
            until: 100.0,
        };
        let (x, y) = (Axis::linear("time, s"), Axis::linear("latency, ms"));
        let svg = marked_lines(&x, &y, &[line], &marks).unwrap();
        for name in ["warm-up", "steady", "objective"] {
            assert!(svg.contains(name), "{name}: {svg}");
        }
        assert!(!svg.contains("narrow"), "16 pixels are too few");
        assert_eq!(svg.matches("<circle").count(), 2, "a dot at every point");
        // The axis reaches the level although no point does.
        assert!(svg.contains(">\n7\n<"), "{svg}");
    }

    #[test]
    fn draws_a_part_of_a_bar_as_long_as_its_share_of_the_axis() {
        let bar = Bar {
            name: "one".to_owned(),
            parts: vec![50.0, 25.0],
            value: "75".to_owned(),
        };
        let svg = bars(&Axis::linear("time, ns"), &[bar], Some(100.0)).unwrap();
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect"))
            .map(|line| {
                line.split("width=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
            })
            .map(|width| width.parse().unwrap())
            .collect();
        // 580 pixels from 0 to 100, and plotters draws whole ones.
        assert_eq!(widths.len(), 2, "{svg}");
        assert!(
            (widths[0] - 290.0).abs() <= 1.0 && (widths[1] - 145.0).abs() <= 1.0,
            "{widths:?}"
        );
        assert!(
            svg.contains("#0072B2") && svg.contains("#D55E00"),
            "colours the style knows"
        );
    }
}
