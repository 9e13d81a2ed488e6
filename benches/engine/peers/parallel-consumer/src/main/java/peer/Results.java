package peer;

import io.vertx.core.Promise;
import io.vertx.core.json.JsonObject;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import org.postgresql.PGConnection;

/** Results become commits, in groups: one thread, with at most 128 results in a transaction, as ours are grouped. */
final class Results {
    private static final int GROUP = 128;
    private static final int COMMITTERS = 1;

    private record Waiting(Turn turn, Promise<Void> committed) {}

    private final BlockingQueue<Waiting> waiting = new ArrayBlockingQueue<>(100_000);

    Results(String url) throws SQLException {
        for (int number = 0; number < COMMITTERS; number++) {
            var connection = DriverManager.getConnection(url);
            connection.setAutoCommit(false);
            connection.unwrap(PGConnection.class).setPrepareThreshold(1);
            var thread = new Thread(() -> keepCommitting(connection), "results-" + number);
            thread.setDaemon(true);
            thread.start();
        }
    }

    void add(Turn turn, Promise<Void> committed) {
        waiting.add(new Waiting(turn, committed));
    }

    private void keepCommitting(Connection connection) {
        try (var statements = new Statements(connection)) {
            var group = new ArrayList<Waiting>();
            while (true) {
                group.add(waiting.take());
                waiting.drainTo(group, GROUP - 1);
                // One order of locks for all groups.
                group.sort(Comparator.comparing((Waiting it) -> it.turn.company).thenComparing(it -> it.turn.conversation));
                statements.commit(group.stream().map(Waiting::turn).toList());
                group.forEach(it -> it.committed.complete());
                group.clear();
            }
        } catch (Exception problem) {
            problem.printStackTrace();
            System.exit(1);
        }
    }

    /** The statements of one transaction, prepared once. */
    private static final class Statements implements AutoCloseable {
        private final Connection connection;
        private final PreparedStatement mark;
        private final PreparedStatement known;
        private final PreparedStatement meet;
        private final PreparedStatement place;
        private final PreparedStatement turns;
        private final PreparedStatement messages;
        private final PreparedStatement outbox;
        private final PreparedStatement book;

        Statements(Connection connection) throws SQLException {
            this.connection = connection;
            mark = connection.prepareStatement("""
                    insert into secretaria.event_outcomes
                      (company_id, processor, event_id, topic, partition, record_offset, state, ended_at)
                    select company_id, 'reply', event_id, 'inbound.messages', partition, record_offset, 'done', now()
                    from unnest(?::bigint[], ?::uuid[], ?::int[], ?::bigint[])
                      as it (company_id, event_id, partition, record_offset)
                    on conflict do nothing
                    returning event_id""");
            known = connection.prepareStatement("""
                    select a.company_id, a.alias, a.contact_id
                    from unnest(?::bigint[], ?::text[]) as it (company_id, alias)
                    join secretaria.contact_aliases a using (company_id, alias)
                    join secretaria.contacts c using (company_id, contact_id)
                    where a.channel = 'whaticket'
                    order by a.company_id, a.alias
                    for update of a""");
            meet = connection.prepareStatement("""
                    with made as (
                      insert into secretaria.contacts (company_id, contact_id, channel, name)
                      select company_id, contact_id, 'whaticket', name
                      from unnest(?::bigint[], ?::uuid[], ?::text[]) as it (company_id, contact_id, name)
                      on conflict do nothing
                    )
                    insert into secretaria.contact_aliases (company_id, channel, alias, contact_id)
                    select company_id, 'whaticket', alias, contact_id
                    from unnest(?::bigint[], ?::text[], ?::uuid[]) as it (company_id, alias, contact_id)
                    on conflict do nothing""");
            place = connection.prepareStatement("""
                    insert into secretaria.conversations as c
                      (company_id, conversation_id, contact_id, channel, send_to, last_position, last_message_at)
                    select company_id, conversation_id, contact_id, 'whaticket', send_to, 2, now()
                    from unnest(?::bigint[], ?::uuid[], ?::uuid[], ?::text[])
                      as it (company_id, conversation_id, contact_id, send_to)
                    order by company_id, conversation_id
                    on conflict (company_id, conversation_id) do update
                    set last_position = c.last_position + 2, send_to = excluded.send_to,
                      last_message_at = greatest(c.last_message_at, excluded.last_message_at)
                    returning conversation_id, last_position""");
            turns = connection.prepareStatement("""
                    insert into secretaria.turns
                      (company_id, turn_id, conversation_id, state, outcome, closes_at, claims, reply_id, ended_at, traceparent)
                    select company_id, turn_id, conversation_id, 'ended', 'replied', now(), 1, reply_id, now(), traceparent
                    from unnest(?::bigint[], ?::uuid[], ?::uuid[], ?::uuid[], ?::text[])
                      as it (company_id, turn_id, conversation_id, reply_id, traceparent)""");
            messages = connection.prepareStatement("""
                    insert into secretaria.messages
                      (company_id, message_id, conversation_id, position, direction, turn_id, body, content, provider_id,
                       occurred_at, received_at)
                    select company_id, message_id, conversation_id, position, direction, turn_id, body, content::jsonb,
                      provider_id, to_timestamp(occurred_at / 1e6), to_timestamp(received_at / 1e6)
                    from unnest(?::bigint[], ?::uuid[], ?::uuid[], ?::bigint[], ?::text[], ?::uuid[], ?::text[], ?::text[],
                                ?::text[], ?::bigint[], ?::bigint[])
                      as it (company_id, message_id, conversation_id, position, direction, turn_id, body, content,
                             provider_id, occurred_at, received_at)""");
            outbox = connection.prepareStatement("""
                    insert into secretaria.outbox (company_id, topic, key, placed_by, spread, event_id, headers, payload)
                    select company_id, topic, convert_to(key, 'UTF8'), placed_by, 2, event_id, headers::jsonb, payload
                    from unnest(?::bigint[], ?::text[], ?::text[], ?::text[], ?::uuid[], ?::text[], ?::bytea[])
                      with ordinality as it (company_id, topic, key, placed_by, event_id, headers, payload, place)
                    order by place""");
            book = connection.prepareStatement("""
                    select ord, reason
                    from increment_ai_usage_bulk(?::bigint[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[],
                                                 array_fill(now(), array[?::int]))
                    where not accepted""");
        }

        void commit(List<Turn> group) throws SQLException {
            var fresh = fresh(group);
            if (!fresh.isEmpty()) {
                findContacts(fresh);
                var positions = positions(fresh);
                long now = micros();
                bind(turns, longs(fresh, it -> it.company), uuids(fresh, it -> it.turn), uuids(fresh, it -> it.conversation),
                        uuids(fresh, it -> it.reply), texts(fresh, it -> it.traceparent));
                turns.executeUpdate();
                store(fresh, positions, now);
                push(fresh, positions, now);
                book(fresh);
            }
            connection.commit();
        }

        private List<Turn> fresh(List<Turn> group) throws SQLException {
            bind(mark, longs(group, it -> it.company), uuids(group, it -> it.event),
                    connection.createArrayOf("int4", group.stream().map(it -> (Object) it.partition).toArray()),
                    longs(group, it -> it.offset));
            var events = new java.util.HashSet<UUID>();
            try (var rows = mark.executeQuery()) {
                while (rows.next()) {
                    events.add(rows.getObject(1, UUID.class));
                }
            }
            return group.stream().filter(it -> events.contains(it.event)).toList();
        }

        private void findContacts(List<Turn> fresh) throws SQLException {
            bind(known, longs(fresh, it -> it.company), texts(fresh, it -> it.address));
            var contacts = new HashMap<String, UUID>();
            try (var rows = known.executeQuery()) {
                while (rows.next()) {
                    contacts.put(rows.getLong(1) + "/" + rows.getString(2), rows.getObject(3, UUID.class));
                }
            }
            var strangers = new ArrayList<Turn>();
            for (var turn : fresh) {
                var contact = contacts.get(turn.company + "/" + turn.address);
                if (contact == null) {
                    strangers.add(turn);
                } else {
                    turn.contact = contact;
                }
            }
            if (!strangers.isEmpty()) {
                var companies = longs(strangers, it -> it.company);
                var ids = uuids(strangers, it -> it.contact);
                bind(meet, companies, ids, texts(strangers, it -> it.name), companies, texts(strangers, it -> it.address), ids);
                meet.executeUpdate();
            }
        }

        private HashMap<UUID, Long> positions(List<Turn> fresh) throws SQLException {
            bind(place, longs(fresh, it -> it.company), uuids(fresh, it -> it.conversation), uuids(fresh, it -> it.contact),
                    texts(fresh, it -> it.replyTo));
            var positions = new HashMap<UUID, Long>();
            try (var rows = place.executeQuery()) {
                while (rows.next()) {
                    positions.put(rows.getObject(1, UUID.class), rows.getLong(2));
                }
            }
            return positions;
        }

        /** The message and its reply, both in their positions. */
        private void store(List<Turn> fresh, HashMap<UUID, Long> positions, long now) throws SQLException {
            var rows = new Rows(connection, "int8", "uuid", "uuid", "int8", "text", "uuid", "text", "text", "text", "int8", "int8");
            for (var it : fresh) {
                long last = positions.get(it.conversation);
                rows.add(it.company, it.event, it.conversation, last - 1, "in", it.turn, it.body, it.content.encode(),
                        it.providerId, it.occurredAt, it.receivedAt);
                rows.add(it.company, it.reply, it.conversation, last, "out", it.turn, it.answer, null, null, now, now);
            }
            rows.bind(messages);
            messages.executeUpdate();
        }

        /** The five events of a turn's end. */
        private void push(List<Turn> fresh, HashMap<UUID, Long> positions, long now) throws SQLException {
            var rows = new Rows(connection, "int8", "text", "text", "text", "uuid", "text", "bytea");
            for (var it : fresh) {
                var conversation = it.conversation.toString();
                event(rows, it, "outbound.messages", conversation, it.reply, "outbound_message", now, new JsonObject()
                        .put("message_id", it.reply.toString()).put("conversation_id", conversation)
                        .put("position", positions.get(it.conversation)).put("channel", "whaticket").put("to", it.replyTo)
                        .put("body", it.answer).put("purpose", "reply"));
                event(rows, it, "usage.events", "", Ids.usage(it.company, "message_in", it.event), "usage", it.occurredAt,
                        new JsonObject().put("fact", "message_in"));
                event(rows, it, "usage.events", "", Ids.usage(it.company, "message_out", it.turn), "usage", now,
                        new JsonObject().put("fact", "message_out"));
                event(rows, it, "usage.events", "", Ids.modelCall(it.company, it.turn), "usage", now, new JsonObject()
                        .put("fact", "model_tokens").put("model", it.model).put("input", it.tokensIn)
                        .put("output", it.tokensOut).put("cached", 0));
                event(rows, it, "activity.events", "", Ids.end(it.company, it.turn), "turn_ended", now, new JsonObject()
                        .put("turn_id", it.turn.toString()).put("conversation_id", conversation)
                        .put("contact_id", it.contact.toString()).put("messages_in", 1).put("outcome", "replied")
                        .putNull("reason").put("answer_ms", (now - it.receivedAt) / 1_000).put("model", it.model));
            }
            rows.bind(outbox);
            outbox.executeUpdate();
        }

        private void event(Rows rows, Turn turn, String topic, String subject, UUID event, String kind, long at,
                JsonObject payload) {
            var key = subject.isEmpty() ? Long.toString(turn.company) : turn.company + "/" + subject;
            rows.add(turn.company, topic, key, subject, event, turn.headers(event, kind, at),
                    turn.envelope(event, kind, at, payload));
        }

        private void book(List<Turn> fresh) throws SQLException {
            bind(book, longs(fresh, it -> it.company), texts(fresh, it -> it.model), longs(fresh, it -> it.tokensIn),
                    longs(fresh, it -> it.tokensOut), longs(fresh, it -> 0L),
                    texts(fresh, it -> Ids.modelCall(it.company, it.turn).toString()));
            book.setInt(7, fresh.size());
            try (var refused = book.executeQuery()) {
                if (refused.next()) {
                    throw new SQLException("usage cannot be booked: " + refused.getString(2));
                }
            }
        }

        private static long micros() {
            var now = Instant.now();
            return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
        }

        private static void bind(PreparedStatement statement, java.sql.Array... arrays) throws SQLException {
            for (int place = 0; place < arrays.length; place++) {
                statement.setArray(place + 1, arrays[place]);
            }
        }

        private java.sql.Array longs(List<Turn> turns, java.util.function.Function<Turn, Long> of) throws SQLException {
            return connection.createArrayOf("int8", turns.stream().map(of).toArray());
        }

        private java.sql.Array uuids(List<Turn> turns, java.util.function.Function<Turn, UUID> of) throws SQLException {
            return connection.createArrayOf("uuid", turns.stream().map(of).toArray());
        }

        private java.sql.Array texts(List<Turn> turns, java.util.function.Function<Turn, String> of) throws SQLException {
            return connection.createArrayOf("text", turns.stream().map(of).toArray());
        }

        @Override
        public void close() throws SQLException {
            connection.close();
        }
    }

    /** Rows as one array per column. */
    private static final class Rows {
        private final Connection connection;
        private final String[] types;
        private final List<List<Object>> columns = new ArrayList<>();

        Rows(Connection connection, String... types) {
            this.connection = connection;
            this.types = types;
            for (int column = 0; column < types.length; column++) {
                columns.add(new ArrayList<>());
            }
        }

        void add(Object... row) {
            for (int column = 0; column < row.length; column++) {
                columns.get(column).add(row[column]);
            }
        }

        void bind(PreparedStatement statement) throws SQLException {
            for (int column = 0; column < types.length; column++) {
                var values = columns.get(column);
                Object[] array = types[column].equals("bytea") ? values.toArray(new byte[0][]) : values.toArray();
                statement.setArray(column + 1, connection.createArrayOf(types[column], array));
            }
        }
    }
}
