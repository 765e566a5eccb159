//! A whole life with one fault at each point of each stage.

use afterglow_operator_tests::life::{Strike, strike_everywhere};
use anyhow::{Result, ensure};

/// OP1.
#[tokio::test]
async fn killed_after_any_write_it_ends_where_it_would_have_and_does_nothing_twice() -> Result<()> {
    let points = strike_everywhere("op1", Strike::KillAfterWrite).await?;
    println!("killed at {points} points");
    ensure!(points > 40, "{points}");
    Ok(())
}

/// OP2.
#[tokio::test]
async fn an_answer_that_is_lost_after_any_write_makes_no_duplicate() -> Result<()> {
    let points = strike_everywhere("op2", Strike::LoseReply).await?;
    println!("lost {points} answers");
    ensure!(points > 40, "{points}");
    Ok(())
}

/// Beside OP2: the write that was not carried out.
#[tokio::test]
async fn any_write_that_the_api_server_fails_is_made_up_for() -> Result<()> {
    let points = strike_everywhere("op2b", Strike::RefuseWrite(500)).await?;
    println!("refused {points} writes");
    ensure!(points > 40, "{points}");
    Ok(())
}

/// OP3.
#[tokio::test]
async fn a_watch_that_breaks_before_any_event_loses_nothing() -> Result<()> {
    let points = strike_everywhere("op3", Strike::LoseEvent).await?;
    println!("broke a watch at {points} points");
    ensure!(points > 40, "{points}");
    Ok(())
}
