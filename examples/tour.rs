use pool_runtime::{Pool, Result, pool_main, task};

/// Counts the words of one text.
#[task]
fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[task]
fn scale(xs: &[f64], by: f64) -> Vec<f64> {
    xs.iter().map(|x| x * by).collect()
}

pool_main!(run);

fn run() -> Result<()> {
    let pool = Pool::new(4)?;
    let job = pool.apply_async(scale::call(&[1.0, 2.0], 0.5));
    let counts = pool.map(count_words::call, ["to be or not to be", "that is it"])?;
    println!("{counts:?} {:?} {}", job.get()?, count_words("a plain call"));
    Ok(())
}
