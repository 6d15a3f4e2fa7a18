package featurestore.local;

import java.util.List;
import org.apache.cassandra.db.marshal.BooleanType;
import org.apache.cassandra.db.marshal.MapType;
import org.apache.cassandra.db.marshal.UTF8Type;
import org.apache.cassandra.db.virtual.AbstractVirtualTable;
import org.apache.cassandra.db.virtual.SimpleDataSet;
import org.apache.cassandra.db.virtual.VirtualKeyspace;
import org.apache.cassandra.db.virtual.VirtualKeyspaceRegistry;
import org.apache.cassandra.dht.LocalPartitioner;
import org.apache.cassandra.schema.KeyspaceMetadata;
import org.apache.cassandra.schema.Schema;
import org.apache.cassandra.schema.TableMetadata;

/** Keyspaces' own schema tables, which a client polls after DDL until what it made is ACTIVE; here that is at once. */
final class SystemSchemaMcs {
    static final String NAME = "system_schema_mcs";

    private SystemSchemaMcs() {}

    static void register() {
        VirtualKeyspaceRegistry.instance.register(new VirtualKeyspace(NAME, List.of(new Keyspaces(), new Tables())));
    }

    private static Iterable<KeyspaceMetadata> userKeyspaces() {
        return Schema.instance.distributedKeyspaces().filter(keyspace -> !keyspace.name.startsWith("system"));
    }

    private static TableMetadata.Builder table(String name) {
        return TableMetadata.builder(NAME, name)
            .kind(TableMetadata.Kind.VIRTUAL)
            .partitioner(new LocalPartitioner(UTF8Type.instance))
            .addPartitionKeyColumn("keyspace_name", UTF8Type.instance);
    }

    private static final class Keyspaces extends AbstractVirtualTable {
        Keyspaces() {
            super(table("keyspaces")
                .addRegularColumn("durable_writes", BooleanType.instance)
                .addRegularColumn("replication", MapType.getInstance(UTF8Type.instance, UTF8Type.instance, false))
                .build());
        }

        @Override
        public DataSet data() {
            SimpleDataSet rows = new SimpleDataSet(metadata());
            for (KeyspaceMetadata keyspace : userKeyspaces())
                rows.row(keyspace.name)
                    .column("durable_writes", keyspace.params.durableWrites)
                    .column("replication", keyspace.params.replication.asMap());
            return rows;
        }
    }

    private static final class Tables extends AbstractVirtualTable {
        Tables() {
            super(table("tables")
                .addClusteringColumn("table_name", UTF8Type.instance)
                .addRegularColumn("status", UTF8Type.instance)
                .build());
        }

        @Override
        public DataSet data() {
            SimpleDataSet rows = new SimpleDataSet(metadata());
            for (KeyspaceMetadata keyspace : userKeyspaces())
                for (TableMetadata table : keyspace.tables) rows.row(keyspace.name, table.name).column("status", "ACTIVE");
            return rows;
        }
    }
}
