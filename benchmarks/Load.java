import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.FileInputStream;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.io.sstable.CQLSSTableWriter;
import org.apache.cassandra.utils.ByteBufferUtil;

/** Rows as the files of a table, written without a server, which is to be started with them in its folder. */
public final class Load {
    /** Arguments: the file of rows (as Ceiling.java reads it), the folder to write to, the CREATE TABLE, the INSERT. */
    public static void main(String[] arguments) throws Exception {
        // By the server's configuration: what is written without one is of a newer form than a server reads by its defaults.
        DatabaseDescriptor.toolInitialization();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(arguments[0]), 1 << 20));
             CQLSSTableWriter table = CQLSSTableWriter.builder()
                 .inDirectory(arguments[1]).forTable(arguments[2]).using(arguments[3]).withBufferSizeInMiB(128).build()) {
            int rows = in.readInt();
            int columns = in.readInt();
            for (int row = 0; row < rows; row++) {
                List<ByteBuffer> values = new ArrayList<>(columns);
                for (int column = 0; column < columns; column++) {
                    int length = in.readInt();
                    // A null is not written: it would be a tombstone.
                    values.add(length < 0 ? ByteBufferUtil.UNSET_BYTE_BUFFER : ByteBuffer.wrap(in.readNBytes(length)));
                }
                table.rawAddRow(values);
            }
        }
        System.exit(0); // Cassandra's threads would keep it
    }
}
