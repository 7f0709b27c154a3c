//! Where the boxes of a graph are: in columns by the longest path to them, and in each column in the order of what they
//! are connected with.
//!
//! An edge that spans several columns has a bend in each column between, so that it passes between the boxes there.

use std::collections::VecDeque;

/// The space around the drawing.
const MARGIN: u64 = 24;
/// The space between two columns, for edges and their labels.
const ASIDE: u64 = 96;
/// The space between two boxes of a column.
const BELOW: u64 = 20;
/// The height of a bend.
const BEND: u64 = 8;
/// How often the columns are put in order.
const SWEEPS: usize = 12;
/// The most bends: in a graph that needs more, long edges are straight.
const BENDS: usize = 50_000;

/// Where a box is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Place {
    pub x: u64,
    pub y: u64,
    pub width: u64,
    pub height: u64,
}

/// A drawing: its size, the place of each box, and the points of each edge: its beginning, where it enters and leaves each
/// column on its way, and its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drawing {
    pub width: u64,
    pub height: u64,
    pub boxes: Vec<Place>,
    pub ways: Vec<Vec<(u64, u64)>>,
}

/// A box, or a bend of an edge.
struct Cell {
    column: usize,
    height: u64,
    /// What it is connected with in the columns beside its own.
    left: Vec<usize>,
    right: Vec<usize>,
}

/// Places boxes of these widths and heights, with these edges between them.
pub fn layout(sizes: &[(u64, u64)], edges: &[(usize, usize)]) -> Drawing {
    let ranks = ranks(sizes.len(), edges);
    let cell = |column: usize, height: u64| Cell { column, height, left: Vec::new(), right: Vec::new() };
    let mut cells: Vec<Cell> = sizes.iter().zip(&ranks).map(|((_, height), rank)| cell(*rank, *height)).collect();
    let mut ways: Vec<Vec<usize>> = Vec::new();
    for (from, to) in edges {
        let mut way = vec![*from];
        let between = ranks[*from] + 1..ranks[*to];
        if cells.len() + between.len() <= sizes.len() + BENDS {
            for column in between {
                way.push(cells.len());
                cells.push(cell(column, BEND));
            }
        }
        way.push(*to);
        for pair in way.windows(2) {
            if cells[pair[0]].column + 1 == cells[pair[1]].column {
                cells[pair[0]].right.push(pair[1]);
                cells[pair[1]].left.push(pair[0]);
            }
        }
        ways.push(way);
    }
    let columns = order(&cells);
    let places = place(&cells, &columns, sizes);
    let middle = |cell: usize| places[cell].y + places[cell].height / 2;
    let points = |way: &Vec<usize>| {
        let mut points = Vec::new();
        for (at, cell) in way.iter().enumerate() {
            if at > 0 {
                points.push((places[*cell].x, middle(*cell)));
            }
            if at + 1 < way.len() {
                points.push((places[*cell].x + places[*cell].width, middle(*cell)));
            }
        }
        points
    };
    Drawing {
        width: places.iter().map(|place| place.x + place.width).max().unwrap_or(0) + MARGIN,
        height: places.iter().map(|place| place.y + place.height).max().unwrap_or(0) + MARGIN,
        ways: ways.iter().map(points).collect(),
        boxes: places[..sizes.len()].to_vec(),
    }
}

/// The column of each vertex: the length of the longest path that leads to it. What is in a circle stays where it was reached
/// from outside.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0; count];
    let mut before = vec![0_usize; count];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in edges {
        before[*to] += 1;
        after[*from].push(*to);
    }
    let mut ready: VecDeque<usize> = (0..count).filter(|at| before[*at] == 0).collect();
    while let Some(at) = ready.pop_front() {
        for to in &after[at] {
            ranks[*to] = ranks[*to].max(ranks[at] + 1);
            before[*to] -= 1;
            if before[*to] == 0 {
                ready.push_back(*to);
            }
        }
    }
    ranks
}

/// The cells of each column, from the top down, so that few edges cross: each is at the middle of those that it is
/// connected with, seen from the left and from the right in turn.
fn order(cells: &[Cell]) -> Vec<Vec<usize>> {
    let count = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut positions = vec![0_u64; cells.len()];
    for (at, cell) in cells.iter().enumerate() {
        positions[at] = columns[cell.column].len() as u64;
        columns[cell.column].push(at);
    }
    for sweep in 0..SWEEPS {
        let from_left = sweep.is_multiple_of(2);
        let turn: Vec<usize> = if from_left { (0..count).collect() } else { (0..count).rev().collect() };
        for column in turn {
            let middle = |cell: usize| {
                let beside = if from_left { &cells[cell].left } else { &cells[cell].right };
                match beside.len() as u64 {
                    0 => (positions[cell], 1),
                    count => (beside.iter().map(|other| positions[*other]).sum::<u64>(), count),
                }
            };
            let mut sorted: Vec<((u64, u64), usize)> = columns[column].iter().map(|cell| (middle(*cell), *cell)).collect();
            // Fractions are compared without a division, so that the result is exact.
            sorted.sort_by(|((sum, count), _), ((other, others), _)| (sum * others).cmp(&(other * count)));
            columns[column] = sorted.into_iter().map(|(_, cell)| cell).collect();
            for (at, cell) in columns[column].iter().enumerate() {
                positions[*cell] = at as u64;
            }
        }
    }
    columns
}

/// The place of each cell: the boxes of a column have one width, and each column is in the middle of the drawing.
fn place(cells: &[Cell], columns: &[Vec<usize>], sizes: &[(u64, u64)]) -> Vec<Place> {
    let gaps = |column: &Vec<usize>| (column.len() as u64).saturating_sub(1) * BELOW;
    let height = |column: &Vec<usize>| column.iter().map(|cell| cells[*cell].height).sum::<u64>() + gaps(column);
    let tallest = columns.iter().map(height).max().unwrap_or(0);
    let mut places = vec![Place::default(); cells.len()];
    let mut x = MARGIN;
    for column in columns {
        let width = column.iter().filter_map(|cell| sizes.get(*cell)).map(|(width, _)| *width).max().unwrap_or(0);
        let mut y = MARGIN + (tallest - height(column)) / 2;
        for cell in column {
            places[*cell] = Place { x, y, width, height: cells[*cell].height };
            y += cells[*cell].height + BELOW;
        }
        x += width + ASIDE;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_right_of_what_leads_to_it_and_nothing_overlaps() {
        // 0 → 1 → 2, and 0 → 2 passes the column of 1; 3 is alone.
        let drawing = layout(&[(50, 30), (80, 30), (60, 40), (20, 30)], &[(0, 1), (1, 2), (0, 2)]);
        let [first, second, third, alone] = drawing.boxes[..] else { panic!("{drawing:?}") };
        assert!(first.x + first.width < second.x && second.x + second.width < third.x, "{drawing:?}");
        assert_eq!((alone.x, alone.width), (first.x, first.width), "one column, one width");
        assert!(alone.y >= first.y + first.height + BELOW, "{drawing:?}");
        assert_eq!((drawing.ways[0].len(), drawing.ways[2].len()), (2, 4));
        let (x, y) = drawing.ways[2][1];
        assert!(x == second.x && !(second.y..=second.y + second.height).contains(&y), "it passes beside the box: {drawing:?}");
        assert_eq!((drawing.width, drawing.height >= third.y + third.height), (third.x + third.width + MARGIN, true));
    }

    #[test]
    fn few_edges_cross() {
        // Both of the left column lead to the other's neighbour.
        let drawing = layout(&[(10, 10); 4], &[(0, 3), (1, 2)]);
        let above = |a: usize, b: usize| drawing.boxes[a].y < drawing.boxes[b].y;
        assert_eq!(above(0, 1), above(3, 2), "{drawing:?}");
    }

    #[test]
    fn circles_and_nothing_end() {
        assert_eq!(layout(&[], &[]), Drawing { width: MARGIN, height: MARGIN, boxes: Vec::new(), ways: Vec::new() });
        let drawing = layout(&[(10, 10); 3], &[(0, 1), (1, 0), (2, 2)]);
        assert!(drawing.ways.iter().all(|way| way.len() == 2), "{drawing:?}");
    }
}
