package featurestore.local;

import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.cassandra.db.marshal.DoubleType;
import org.apache.cassandra.db.marshal.LongType;
import org.apache.cassandra.db.marshal.UTF8Type;
import org.apache.cassandra.db.virtual.AbstractVirtualTable;
import org.apache.cassandra.db.virtual.SimpleDataSet;
import org.apache.cassandra.db.virtual.VirtualKeyspace;
import org.apache.cassandra.db.virtual.VirtualKeyspaceRegistry;
import org.apache.cassandra.dht.LocalPartitioner;
import org.apache.cassandra.schema.TableMetadata;

/** Tables that Keyspaces does not have, by which a test sees what it asked of the stand-in and what that allows. */
final class StandIn {
    static final String NAME = "stand_in";

    private StandIn() {}

    static void register(Capacity writes, Capacity reads, CurrentLimits limits) {
        VirtualKeyspaceRegistry.instance.register(
            new VirtualKeyspace(NAME, List.of(new Consumed(writes, reads), new Allowed(limits))));
    }

    private static TableMetadata.Builder table(String name, String key) {
        return TableMetadata.builder(NAME, name)
            .kind(TableMetadata.Kind.VIRTUAL)
            .partitioner(new LocalPartitioner(UTF8Type.instance))
            .addPartitionKeyColumn(key, UTF8Type.instance);
    }

    /** What ordinary roles asked of every table since the start; what Cassandra then found invalid is among it. */
    private static final class Consumed extends AbstractVirtualTable {
        private final Capacity writes;
        private final Capacity reads;

        Consumed(Capacity writes, Capacity reads) {
            super(table("consumed", "keyspace_name")
                .addClusteringColumn("table_name", UTF8Type.instance)
                .addRegularColumn("writes", LongType.instance)
                .addRegularColumn("writes_refused", LongType.instance)
                .addRegularColumn("written_units", DoubleType.instance)
                .addRegularColumn("bytes_written", LongType.instance)
                .addRegularColumn("reads", LongType.instance)
                .addRegularColumn("reads_refused", LongType.instance)
                .addRegularColumn("read_units", DoubleType.instance)
                .build());
            this.writes = writes;
            this.reads = reads;
        }

        @Override
        public DataSet data() {
            Map<Capacity.Table, Capacity.Account> written = writes.accounts();
            Map<Capacity.Table, Capacity.Account> read = reads.accounts();
            Set<Capacity.Table> tables = new HashSet<>(written.keySet());
            tables.addAll(read.keySet());
            SimpleDataSet rows = new SimpleDataSet(metadata());
            for (Capacity.Table table : tables) {
                Capacity.Account write = written.getOrDefault(table, Capacity.Account.NONE);
                Capacity.Account select = read.getOrDefault(table, Capacity.Account.NONE);
                rows.row(table.keyspace(), table.name())
                    .column("writes", write.taken())
                    .column("writes_refused", write.refused())
                    .column("written_units", write.units())
                    .column("bytes_written", write.bytes())
                    .column("reads", select.taken())
                    .column("reads_refused", select.refused())
                    .column("read_units", select.units());
            }
            return rows;
        }
    }

    /** The limits of now, under the names that they have in the file: who changed that sees here when, and whether, it is in force. */
    private static final class Allowed extends AbstractVirtualTable {
        private final CurrentLimits limits;

        Allowed(CurrentLimits limits) {
            super(table("capacity", "name")
                .addRegularColumn("units", DoubleType.instance)
                .addRegularColumn("file_error", UTF8Type.instance)
                .build());
            this.limits = limits;
        }

        @Override
        public DataSet data() {
            Limits now = limits.get();
            SimpleDataSet rows = new SimpleDataSet(metadata());
            Map.of("wcu", now.wcu(), "rcu", now.rcu(), "partition.wcu", now.partitionWcu(), "partition.rcu", now.partitionRcu())
                .forEach((name, units) -> rows.row(name).column("units", units).column("file_error", limits.error()));
            return rows;
        }
    }
}
