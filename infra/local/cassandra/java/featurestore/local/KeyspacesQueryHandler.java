package featurestore.local;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.cassandra.cql3.BatchQueryOptions;
import org.apache.cassandra.cql3.CQLStatement;
import org.apache.cassandra.cql3.QueryHandler;
import org.apache.cassandra.cql3.QueryOptions;
import org.apache.cassandra.cql3.QueryProcessor;
import org.apache.cassandra.cql3.restrictions.StatementRestrictions;
import org.apache.cassandra.cql3.statements.BatchStatement;
import org.apache.cassandra.cql3.statements.ModificationStatement;
import org.apache.cassandra.cql3.statements.SelectStatement;
import org.apache.cassandra.db.ConsistencyLevel;
import org.apache.cassandra.db.WriteType;
import org.apache.cassandra.exceptions.InvalidRequestException;
import org.apache.cassandra.exceptions.ReadTimeoutException;
import org.apache.cassandra.exceptions.WriteTimeoutException;
import org.apache.cassandra.service.ClientState;
import org.apache.cassandra.service.QueryState;
import org.apache.cassandra.transport.Dispatcher;
import org.apache.cassandra.transport.messages.ResultMessage;
import org.apache.cassandra.utils.ByteBufferUtil;
import org.apache.cassandra.utils.MD5Digest;

/**
 * Makes Cassandra answer as Amazon Keyspaces where the two differ: it takes Keyspaces' own DDL, refuses what Keyspaces does not
 * have and no guardrail covers, and answers requests over the capacity of a table or of a partition
 * (see CurrentLimits) with a write or read timeout. Superusers and the system keyspaces are left alone.
 */
public final class KeyspacesQueryHandler implements QueryHandler {
    private static final int BATCH_LIMIT = 30;
    private static final int WRITE_UNIT_BYTES = 1024;
    private static final Set<String> OPEN_TO_ALL = Set.of(SystemSchemaMcs.NAME, StandIn.NAME);
    private static final String DATACENTER = System.getProperty("keyspaces.datacenter");

    private final QueryProcessor cassandra = QueryProcessor.instance;
    private final CurrentLimits limits = CurrentLimits.ofSystemProperties();
    private final Capacity writes = new Capacity();
    private final Capacity reads = new Capacity();

    /** Cassandra makes the one handler by its class name, at its start. */
    public KeyspacesQueryHandler() {
        SystemSchemaMcs.register();
        StandIn.register(writes, reads, limits);
    }

    @Override
    public CQLStatement parse(String cql, QueryState state, QueryOptions options) {
        return cassandra.parse(KeyspacesCql.translate(cql, DATACENTER), state, options);
    }

    @Override
    public ResultMessage.Prepared prepare(String cql, ClientState state, Map<String, ByteBuffer> payload) {
        return cassandra.prepare(KeyspacesCql.translate(cql, DATACENTER), state, payload);
    }

    @Override
    public Prepared getPrepared(MD5Digest id) {
        return cassandra.getPrepared(id);
    }

    @Override
    public ResultMessage process(CQLStatement statement, QueryState state, QueryOptions options,
                                 Map<String, ByteBuffer> payload, Dispatcher.RequestTime time) {
        options.prepare(statement.getBindVariables()); // values given by name have no order before; a second time does nothing
        admit(statement, state, options);
        if (isOpenToAll(statement)) return statement.execute(state, options, time);
        return cassandra.process(statement, state, options, payload, time);
    }

    @Override
    public ResultMessage processPrepared(CQLStatement statement, QueryState state, QueryOptions options,
                                         Map<String, ByteBuffer> payload, Dispatcher.RequestTime time) {
        admit(statement, state, options);
        if (isOpenToAll(statement)) return statement.execute(state, options, time);
        return cassandra.processPrepared(statement, state, options, payload, time);
    }

    @Override
    public ResultMessage processBatch(BatchStatement batch, QueryState state, BatchQueryOptions options,
                                      Map<String, ByteBuffer> payload, Dispatcher.RequestTime time) {
        if (isOrdinary(state)) {
            List<ModificationStatement> statements = statements(batch);
            List<Capacity.Cost> costs = new ArrayList<>();
            for (int i = 0; i < statements.size(); i++) {
                QueryOptions own = options.forStatement(i);
                add(costs, statements.get(i), state, own, bytes(own));
            }
            admitWrites(costs, options.getConsistency());
        }
        return cassandra.processBatch(batch, state, options, payload, time);
    }

    /** Everyone may read these tables, but a GRANT on a virtual keyspace is not possible: so no permission is asked. */
    private static boolean isOpenToAll(CQLStatement statement) {
        return statement instanceof SelectStatement && OPEN_TO_ALL.contains(((SelectStatement) statement).keyspace());
    }

    private static boolean isOrdinary(QueryState state) {
        return !state.getClientState().isInternal && !state.getClientState().isSuper();
    }

    private void admit(CQLStatement statement, QueryState state, QueryOptions options) {
        if (!isOrdinary(state)) return;
        if (statement instanceof SelectStatement) {
            admitRead((SelectStatement) statement, state, options);
        } else if (statement instanceof BatchStatement) {
            List<ModificationStatement> statements = statements((BatchStatement) statement);
            List<Capacity.Cost> costs = new ArrayList<>();
            // A batch that is one text has one list of values, and does not say which are whose: each gets its share.
            for (ModificationStatement each : statements) add(costs, each, state, options, bytes(options) / statements.size());
            admitWrites(costs, options.getConsistency());
        } else if (statement instanceof ModificationStatement) {
            List<Capacity.Cost> costs = new ArrayList<>();
            add(costs, (ModificationStatement) statement, state, options, bytes(options));
            admitWrites(costs, options.getConsistency());
        }
    }

    private void admitRead(SelectStatement select, QueryState state, QueryOptions options) {
        if (isSystem(select.keyspace())) return;
        refuseWhatKeyspacesLacks(select, options);
        ConsistencyLevel consistency = options.getConsistency();
        // Keyspaces asks this much for every 4 KB that it reads; what will be read is not known here, so it is the least of it.
        double each = consistency == ConsistencyLevel.ONE || consistency == ConsistencyLevel.LOCAL_ONE ? 0.5 : 1;
        Capacity.Table table = new Capacity.Table(select.keyspace(), select.table());
        Capacity.Cost cost = new Capacity.Cost(table, partitions(select, state, options), each, 0);
        Limits now = limits.get();
        if (!reads.take(List.of(cost), now.rcu(), now.partitionRcu())) throw new ReadTimeoutException(consistency, 0, 2, false);
    }

    private void admitWrites(List<Capacity.Cost> costs, ConsistencyLevel consistency) {
        Limits now = limits.get();
        if (!writes.take(costs, now.wcu(), now.partitionWcu())) throw new WriteTimeoutException(WriteType.SIMPLE, consistency, 0, 2);
    }

    private static void add(List<Capacity.Cost> costs, ModificationStatement write, QueryState state, QueryOptions options, long bytes) {
        if (isSystem(write.keyspace())) return;
        List<ByteBuffer> keys = isComplete(write, options) ? write.buildPartitionKeyNames(options, state.getClientState()) : List.of();
        long each = Math.max(1, (bytes + WRITE_UNIT_BYTES - 1) / WRITE_UNIT_BYTES);
        costs.add(new Capacity.Cost(new Capacity.Table(write.keyspace(), write.table()), copies(keys), each, bytes));
    }

    /** The partitions that a query names; none if it looks for its rows in the whole table. */
    private static List<ByteBuffer> partitions(SelectStatement select, QueryState state, QueryOptions options) {
        StatementRestrictions where = select.getRestrictions();
        if (where.isKeyRange() || where.usesSecondaryIndexing() || !isComplete(select, options)) return List.of();
        return copies(where.getPartitionKeys(options, state.getClientState()));
    }

    /** Whether there is a value for every marker; where there is not, Cassandra is about to refuse the request itself. */
    private static boolean isComplete(CQLStatement statement, QueryOptions options) {
        return options.getValues().size() == statement.getBindVariables().size();
    }

    /** A key may be a slice of its request, all of which would be kept in memory with it. */
    private static List<ByteBuffer> copies(List<ByteBuffer> keys) {
        return keys.stream().map(ByteBufferUtil::clone).toList();
    }

    /** About the size of a row: values within the text of a statement are not counted. */
    private static long bytes(QueryOptions options) {
        return options.getValues().stream().mapToLong(value -> value == null ? 0 : value.remaining()).sum();
    }

    private static List<ModificationStatement> statements(BatchStatement batch) {
        List<ModificationStatement> statements = batch.getStatements();
        if (statements.size() > BATCH_LIMIT)
            throw new InvalidRequestException(
                "Keyspaces takes at most " + BATCH_LIMIT + " statements in a batch, not " + statements.size());
        return statements;
    }

    private static void refuseWhatKeyspacesLacks(SelectStatement select, QueryOptions options) {
        if (select.getSelection().isAggregate())
            throw new InvalidRequestException("Keyspaces has no aggregate functions (COUNT, MIN, MAX, SUM, AVG)");
        if (select.parameters.isDistinct) throw new InvalidRequestException("Keyspaces has no SELECT DISTINCT");
        if (select.getPerPartitionLimit(options) != Integer.MAX_VALUE)
            throw new InvalidRequestException("Keyspaces has no PER PARTITION LIMIT");
    }

    private static boolean isSystem(String keyspace) {
        return keyspace.startsWith("system") || keyspace.equals(StandIn.NAME);
    }
}
