use super::*;
use gateway_core::fault::Fault;
use gateway_core::protocol::ContentRange;
use gateway_core::protocol::head::HeadError;
use std::sync::atomic::{AtomicBool, Ordering};

const UP01: BackendId = BackendId(0);

fn metrics() -> Arc<Metrics> {
    Metrics::new(&["public".to_owned()], &[(UP01, "up01".to_owned(), 3)])
}

fn farm(size: u32) -> Arc<Metrics> {
    let listeners: Vec<_> = (0..2).map(|n| format!("listener{n}")).collect();
    let backends: Vec<_> = (0..size).map(|n| (BackendId(n), format!("backend{n:03}"), 1)).collect();
    Metrics::new(&listeners, &backends)
}

fn series(metrics: &Metrics) -> usize {
    metrics.encode().lines().filter(|line| !line.starts_with('#')).count()
}

#[track_caller]
fn check(metrics: &Metrics, series: &str, value: &str) {
    let text = metrics.encode();
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|r| r.starts_with(' ')));
    assert_eq!(line, Some(format!("{series} {value}").as_str()));
}

#[test]
fn two_hundred_backends_in_use_stay_below_ten_thousand_series() {
    let metrics = farm(200);
    (0..200).for_each(|n| metrics.session_created(BackendId(n)));
    let count = series(&metrics);
    assert!(count <= 10_000, "{count} series");
}

/// Of thousands of backends few may be used.
#[test]
fn two_thousand_backends_stay_below_three_thousand_series_before_there_is_traffic() {
    let metrics = farm(2_000);
    let quiet = |metrics: &Metrics| {
        for n in 0..2_000 {
            let backend = BackendId(n);
            metrics.set_backend_up(backend, true);
            metrics.set_backend_state(backend, BackendState::Ready);
            metrics.set_backend_weight(backend, 1);
            metrics.health_check(backend, true, Duration::from_millis(1));
            metrics.add_backend(backend, &format!("backend{n:03}"), 1);
            assert_eq!(metrics.backend_totals(backend), BackendTotals::default());
            assert_eq!(metrics.backend_in_flight(backend), 0);
        }
    };
    quiet(&metrics);
    metrics.count_sessions_with(Box::new(|| vec![(BackendId(7), 0, 0)]));
    let before = series(&metrics);
    assert!(before < 3_000, "{before} series");
    let ups = metrics.encode().matches("\nbitsgw_backend_up{").count();
    assert_eq!(ups, 2_000, "each is up or not");
    metrics.session_created(BackendId(3));
    let used = series(&metrics);
    assert!(used > before + 30, "{used} series");
    quiet(&metrics);
    assert_eq!(series(&metrics), used);
    metrics.remove_backend(BackendId(3));
    assert_eq!(series(&metrics), before - 1);
}

#[track_caller]
fn tells_of_up01(tell: impl FnOnce(&Metrics)) {
    let metrics = metrics();
    let series = "bitsgw_backend_requests_total{backend=\"up01\",code=\"5xx\"}";
    assert!(!metrics.encode().contains("{backend=\"up01\","), "{}", metrics.encode());
    tell(&metrics);
    check(&metrics, series, "0");
}

#[test]
fn a_backend_has_its_series_at_0_from_the_first_thing_to_tell() {
    tells_of_up01(|metrics| metrics.session_created(UP01));
    tells_of_up01(|metrics| drop(metrics.backend_connected(UP01, false)));
    tells_of_up01(|metrics| metrics.connect_error(UP01, ConnectError::Refused));
    tells_of_up01(|metrics| metrics.health_check(UP01, false, Duration::from_secs(1)));
    tells_of_up01(|metrics| metrics.set_backend_up(UP01, false));
    tells_of_up01(|metrics| metrics.set_backend_state(UP01, BackendState::Drain));
    tells_of_up01(|metrics| metrics.set_backend_weight(UP01, 9));
    tells_of_up01(|metrics| metrics.count_sessions_with(Box::new(|| vec![(UP01, 0, 1)])));
}

#[test]
fn sessions_of_a_backend_that_is_down_wait() {
    let metrics = metrics();
    metrics.count_sessions_with(Box::new(|| vec![(UP01, 2, 5)]));
    check(&metrics, "bitsgw_sessions_waiting_fallback{backend=\"up01\"}", "0");
    metrics.set_backend_up(UP01, false);
    check(&metrics, "bitsgw_sessions_waiting_fallback{backend=\"up01\"}", "7");
    metrics.set_backend_up(UP01, true);
    check(&metrics, "bitsgw_sessions_waiting_fallback{backend=\"up01\"}", "0");
}

#[test]
fn no_request_makes_a_new_series() {
    let metrics = farm(3);
    (0..3).for_each(|n| metrics.session_created(BackendId(n)));
    let before = series(&metrics);
    for n in 0..20_000u32 {
        let mut outcome = Outcome::new(n as usize % 7, PacketLabel::ALL[n as usize % 7]);
        outcome.status = u16::try_from(n % 1000).unwrap();
        outcome.backend = Some(BackendId(n % 5));
        outcome.backend_status = Some(outcome.status);
        outcome.fault = Some(Fault::ALL[n as usize % 16]);
        outcome.protocol_error = Some(ProtocolError::ALL[n as usize % 8]);
        outcome.total = Duration::from_millis(n.into());
        metrics.record(&outcome);
        metrics.session_created(BackendId(n));
        metrics.session_ended(BackendId(n), EndReason::ALL[n as usize % 4], outcome.total, 1);
    }
    assert_eq!(series(&metrics), before);
}

#[test]
fn a_request_moves_the_series_of_its_listener_packet_and_backend() {
    let metrics = metrics();
    let mut outcome = Outcome::new(0, PacketLabel::Fragment);
    outcome.status = 416;
    outcome.carrier = Some(Carrier::Relay);
    outcome.backend = Some(UP01);
    outcome.backend_status = Some(416);
    outcome.protocol_error = Some(ProtocolError::Range);
    outcome.pin_found = Some(false);
    outcome.alias_found = Some(true);
    outcome.range = Some(ContentRange::new(0, 9_999, 20_000).unwrap());
    outcome.bytes_in = 10_000;
    outcome.bytes_forwarded = 9_000;
    outcome.bytes_out = 5;
    outcome.total = Duration::from_millis(20);
    outcome.backend_wait = Some(Duration::from_millis(3));
    metrics.record(&outcome);
    for (series, value) in [
        ("bitsgw_requests_total{code=\"416\",listener=\"public\",packet_type=\"fragment\"}", "1"),
        ("bitsgw_requests_total{code=\"200\",listener=\"public\",packet_type=\"fragment\"}", "0"),
        ("bitsgw_carried_requests_total{carrier=\"relay\",packet_type=\"fragment\"}", "1"),
        ("bitsgw_carried_requests_total{carrier=\"proxy\",packet_type=\"fragment\"}", "0"),
        ("bitsgw_request_duration_seconds_bucket{packet_type=\"fragment\",le=\"0.01\"}", "0"),
        ("bitsgw_request_duration_seconds_bucket{packet_type=\"fragment\",le=\"0.025\"}", "1"),
        ("bitsgw_received_bytes_total{listener=\"public\"}", "10000"),
        ("bitsgw_sent_bytes_total{listener=\"public\"}", "5"),
        ("bitsgw_fragment_size_bytes_sum{listener=\"public\"}", "10000"),
        ("bitsgw_backend_requests_total{backend=\"up01\",code=\"4xx\"}", "1"),
        ("bitsgw_backend_upload_bytes_total{backend=\"up01\"}", "9000"),
        ("bitsgw_backend_response_duration_seconds_count{backend=\"up01\"}", "1"),
        ("bitsgw_protocol_errors_total{backend=\"up01\",error=\"range\"}", "1"),
        ("bitsgw_affinity_lookups_total{result=\"miss\",source=\"memory\"}", "1"),
        ("bitsgw_affinity_lookups_total{result=\"hit\",source=\"host_id\"}", "1"),
    ] {
        check(&metrics, series, value);
    }
}

#[test]
fn a_refusal_counts_once_under_its_reason() {
    let metrics = metrics();
    let mut outcome = Outcome::new(0, PacketLabel::Other);
    outcome.status = 400;
    outcome.fault = Some(Fault::BadRequest);
    outcome.head_refused = Some(HeadError::TooManyFields);
    metrics.record(&outcome);
    metrics.rejected(Rejection::ConnectionLimit);
    check(&metrics, "bitsgw_request_duration_seconds_count{packet_type=\"other\"}", "0");
    check(&metrics, "bitsgw_rejected_requests_total{reason=\"header_limit\"}", "1");
    check(&metrics, "bitsgw_rejected_requests_total{reason=\"bad_request\"}", "0");
    check(&metrics, "bitsgw_rejected_requests_total{reason=\"connection_limit\"}", "1");
}

#[test]
fn gauges_fall_back_when_what_they_count_has_ended() {
    let metrics = metrics();
    let guards = (metrics.request(0), metrics.backend_connected(UP01, true));
    metrics.connection_opened(0);
    let gauges = [
        "bitsgw_connections{listener=\"public\"}",
        "bitsgw_requests_in_flight{listener=\"public\"}",
        "bitsgw_backend_requests_in_flight{backend=\"up01\"}",
    ];
    for gauge in gauges {
        check(&metrics, gauge, "1");
    }
    drop(guards);
    metrics.connection_closed(0);
    for gauge in gauges {
        check(&metrics, gauge, "0");
    }
    check(&metrics, "bitsgw_connections_total{listener=\"public\"}", "1");
}

#[test]
fn what_nobody_configured_counts_nowhere_and_harms_nothing() {
    let metrics = metrics();
    let before = metrics.encode().lines().count();
    let stranger = BackendId(7);
    drop((metrics.request(9), metrics.backend_connected(stranger, true)));
    metrics.connection_opened(9);
    metrics.connection_closed(9);
    metrics.failover(stranger, FailoverReason::Connect);
    metrics.connect_error(stranger, ConnectError::Refused);
    drop(metrics.backend_connected(stranger, true));
    metrics.set_backend_state(stranger, BackendState::Down);
    metrics.set_backend_weight(stranger, 1);
    metrics.set_backend_up(stranger, false);
    metrics.health_check(stranger, true, Duration::from_secs(1));
    assert_eq!(metrics.encode().lines().count(), before);
}

#[test]
fn sessions_are_counted_when_somebody_looks() {
    let metrics = metrics();
    assert!(!metrics.encode().contains("bitsgw_sessions{"), "{}", metrics.encode());
    metrics.count_sessions_with(Box::new(|| vec![(UP01, 2, 5), (BackendId(8), 1, 1)]));
    check(&metrics, "bitsgw_sessions{backend=\"up01\",state=\"active\"}", "2");
    check(&metrics, "bitsgw_sessions{backend=\"up01\",state=\"idle\"}", "5");
}

#[test]
fn a_backend_is_in_one_state() {
    let metrics = metrics();
    metrics.session_created(UP01);
    check(&metrics, "bitsgw_backend_state{backend=\"up01\",state=\"ready\"}", "1");
    check(&metrics, "bitsgw_backend_weight{backend=\"up01\"}", "3");
    metrics.set_backend_state(UP01, BackendState::Drain);
    check(&metrics, "bitsgw_backend_state{backend=\"up01\",state=\"ready\"}", "0");
    check(&metrics, "bitsgw_backend_state{backend=\"up01\",state=\"drain\"}", "1");
}

#[test]
fn probes_are_counted_by_how_they_end() {
    let metrics = metrics();
    check(&metrics, "bitsgw_backend_up{backend=\"up01\"}", "1");
    metrics.health_check(UP01, false, Duration::from_secs(2));
    metrics.health_check(UP01, true, Duration::from_millis(1500));
    metrics.set_backend_up(UP01, false);
    check(&metrics, "bitsgw_backend_up{backend=\"up01\"}", "0");
    for (result, count) in [("success", "1"), ("failure", "1")] {
        let series =
            format!("bitsgw_backend_health_checks_total{{backend=\"up01\",result=\"{result}\"}}");
        check(&metrics, &series, count);
    }
    check(&metrics, "bitsgw_backend_health_check_duration_seconds{backend=\"up01\"}", "1.5");
}

#[test]
fn a_failed_connection_is_an_attempt_too() {
    let metrics = metrics();
    metrics.connect_error(UP01, ConnectError::Refused);
    drop(metrics.backend_connected(UP01, false));
    drop(metrics.backend_connected(UP01, true));
    metrics.failover(UP01, FailoverReason::Connect);
    check(&metrics, "bitsgw_backend_connection_attempts_total{backend=\"up01\"}", "2");
    check(&metrics, "bitsgw_backend_connection_reuses_total{backend=\"up01\"}", "1");
    check(
        &metrics,
        "bitsgw_backend_connection_errors_total{backend=\"up01\",reason=\"refused\"}",
        "1",
    );
    check(&metrics, "bitsgw_failovers_total{backend=\"up01\",reason=\"connect\"}", "1");
}

#[test]
fn sessions_are_counted_from_their_creation_to_their_end() {
    let metrics = metrics();
    metrics.set_sessions_limit(1_000_000);
    metrics.session_created(UP01);
    metrics.session_ended(UP01, EndReason::Closed, Duration::from_secs(30), 100_000);
    check(&metrics, "bitsgw_sessions_limit", "1000000");
    check(&metrics, "bitsgw_sessions_created_total{backend=\"up01\"}", "1");
    check(&metrics, "bitsgw_sessions_ended_total{backend=\"up01\",reason=\"closed\"}", "1");
    check(&metrics, "bitsgw_session_duration_seconds_bucket{reason=\"closed\",le=\"10\"}", "0");
    check(&metrics, "bitsgw_session_duration_seconds_bucket{reason=\"closed\",le=\"60\"}", "1");
    check(&metrics, "bitsgw_session_size_bytes_sum{reason=\"closed\"}", "100000");
}

#[test]
fn a_backend_that_leaves_takes_its_series_along_and_may_come_back() {
    let metrics = metrics();
    let alone = series(&metrics);
    let up02 = BackendId(100);
    metrics.add_backend(up02, "up02", 5);
    let running = metrics.backend_connected(up02, true);
    let both = series(&metrics);
    assert_eq!(metrics.backend_in_flight(up02), 1);
    metrics.remove_backend(up02);
    assert!(!metrics.encode().contains("up02"), "{}", metrics.encode());
    assert_eq!(series(&metrics), alone);
    metrics.add_backend(up02, "up02", 7);
    drop(running);
    metrics.session_created(up02);
    assert_eq!(series(&metrics), both);
    check(&metrics, "bitsgw_backend_weight{backend=\"up02\"}", "7");
    check(&metrics, "bitsgw_backend_requests_in_flight{backend=\"up02\"}", "0");
}

#[test]
fn connections_are_counted_where_they_have_a_ceiling() {
    let metrics = metrics();
    let ceiling = Arc::new(AtomicBool::new(true));
    let has = Arc::clone(&ceiling);
    metrics.count_connections_with(Box::new(move |id| {
        has.load(Ordering::Relaxed).then_some(if id == UP01 { 3 } else { 1 })
    }));
    metrics.session_created(UP01);
    check(&metrics, "bitsgw_backend_connections{backend=\"up01\"}", "3");
    ceiling.store(false, Ordering::Relaxed);
    assert!(!metrics.encode().contains("bitsgw_backend_connections"));
}
