package featurestore.local;

import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.cassandra.cql3.BatchQueryOptions;
import org.apache.cassandra.cql3.CQLStatement;
import org.apache.cassandra.cql3.QueryHandler;
import org.apache.cassandra.cql3.QueryOptions;
import org.apache.cassandra.cql3.QueryProcessor;
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
import org.apache.cassandra.utils.MD5Digest;

/**
 * Makes Cassandra answer as Amazon Keyspaces where the two differ: it takes Keyspaces' own DDL, refuses what Keyspaces does not
 * have and no guardrail covers, and answers requests over a table's capacity (-Dkeyspaces.wcu, -Dkeyspaces.rcu; 0 is none) with
 * a write or read timeout. Superusers and the system keyspaces are left alone.
 */
public final class KeyspacesQueryHandler implements QueryHandler {
    private static final int BATCH_LIMIT = 30;
    private static final String DATACENTER = System.getProperty("keyspaces.datacenter");

    private final QueryProcessor cassandra = QueryProcessor.instance;
    private final Capacity writes = new Capacity(Double.parseDouble(System.getProperty("keyspaces.wcu", "0")));
    private final Capacity reads = new Capacity(Double.parseDouble(System.getProperty("keyspaces.rcu", "0")));

    /** Cassandra makes the one handler by its class name, at its start. */
    public KeyspacesQueryHandler() {
        SystemSchemaMcs.register();
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
        if (isOrdinary(state)) admit(batch, options.getConsistency());
        return cassandra.processBatch(batch, state, options, payload, time);
    }

    /** Everyone may read Keyspaces' schema tables, but a GRANT on a virtual keyspace is not possible: so no permission is asked. */
    private static boolean isOpenToAll(CQLStatement statement) {
        return statement instanceof SelectStatement && ((SelectStatement) statement).keyspace().equals(SystemSchemaMcs.NAME);
    }

    private static boolean isOrdinary(QueryState state) {
        return !state.getClientState().isInternal && !state.getClientState().isSuper();
    }

    private void admit(CQLStatement statement, QueryState state, QueryOptions options) {
        if (statement instanceof SelectStatement) {
            SelectStatement select = (SelectStatement) statement;
            if (isSystem(select.keyspace()) || !isOrdinary(state)) return;
            refuseWhatKeyspacesLacks(select, options);
            if (!reads.take(select.keyspace(), select.table()))
                throw new ReadTimeoutException(options.getConsistency(), 0, 2, false);
        } else if (statement instanceof BatchStatement) {
            if (isOrdinary(state)) admit((BatchStatement) statement, options.getConsistency());
        } else if (statement instanceof ModificationStatement) {
            if (isOrdinary(state)) admit((ModificationStatement) statement, options.getConsistency());
        }
    }

    private void admit(BatchStatement batch, ConsistencyLevel consistency) {
        if (batch.getStatements().size() > BATCH_LIMIT)
            throw new InvalidRequestException("Keyspaces takes at most " + BATCH_LIMIT + " statements in a batch, not " + batch.getStatements().size());
        for (ModificationStatement statement : batch.getStatements()) admit(statement, consistency);
    }

    private void admit(ModificationStatement statement, ConsistencyLevel consistency) {
        if (!isSystem(statement.keyspace()) && !writes.take(statement.keyspace(), statement.table()))
            throw new WriteTimeoutException(WriteType.SIMPLE, consistency, 0, 2);
    }

    private static void refuseWhatKeyspacesLacks(SelectStatement select, QueryOptions options) {
        if (select.getSelection().isAggregate())
            throw new InvalidRequestException("Keyspaces has no aggregate functions (COUNT, MIN, MAX, SUM, AVG)");
        if (select.parameters.isDistinct) throw new InvalidRequestException("Keyspaces has no SELECT DISTINCT");
        if (select.getPerPartitionLimit(options) != Integer.MAX_VALUE)
            throw new InvalidRequestException("Keyspaces has no PER PARTITION LIMIT");
    }

    private static boolean isSystem(String keyspace) {
        return keyspace.startsWith("system");
    }
}
