import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.cql.BoundStatementBuilder;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.nio.ByteBuffer;
import java.util.Locale;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;

/** The most rows a second: one Java client, prepared inserts, asynchronous, the rows in memory before the clock starts. */
public final class Ceiling {
    private static final int IN_FLIGHT = 256;

    /** Arguments: the driver's configuration, the file of rows, the INSERT. Prints the seconds of the writing alone. */
    public static void main(String[] arguments) throws Exception {
        byte[][][] rows = read(arguments[1]);
        DriverConfigLoader loader = DriverConfigLoader.fromUrl(new File(arguments[0]).toURI().toURL());
        try (CqlSession session = CqlSession.builder().withConfigLoader(loader).build()) {
            PreparedStatement insert = session.prepare(arguments[2]);
            Semaphore room = new Semaphore(IN_FLIGHT);
            AtomicReference<Throwable> failed = new AtomicReference<>();
            long began = System.nanoTime();
            for (byte[][] row : rows) {
                BoundStatementBuilder bound = insert.boundStatementBuilder();
                for (int column = 0; column < row.length; column++)
                    bound = bound.setBytesUnsafe(column, row[column] == null ? null : ByteBuffer.wrap(row[column]));
                room.acquire();
                session.executeAsync(bound.build()).whenComplete((done, error) -> {
                    if (error != null) failed.compareAndSet(null, error);
                    room.release();
                });
            }
            room.acquire(IN_FLIGHT);
            double seconds = (System.nanoTime() - began) / 1e9;
            if (failed.get() != null) throw new IllegalStateException(failed.get());
            System.out.printf(Locale.ROOT, "{\"write_s\": %.3f}%n", seconds);
        }
    }

    private static byte[][][] read(String file) throws Exception {
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(file), 1 << 20))) {
            byte[][][] rows = new byte[in.readInt()][][];
            int columns = in.readInt();
            for (int row = 0; row < rows.length; row++) {
                rows[row] = new byte[columns][];
                for (int column = 0; column < columns; column++) {
                    int length = in.readInt();
                    if (length >= 0) rows[row][column] = in.readNBytes(length);
                }
            }
            return rows;
        }
    }
}
